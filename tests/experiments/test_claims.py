"""The paper's claims on its own numbers, and on others that break each of them."""

from __future__ import annotations

from mmmos.experiments.claims import CLAIMS, paper_srcc


def test_claims_hold_in_the_papers_own_tables_but_one() -> None:
    """With BLSTM(h), UT has .920 on Test, Con .912 and DCQ .909."""
    broken = [claim.text for claim in CLAIMS if claim.holds(paper_srcc) is not True]
    assert broken == ["Con and DCQ are as good as UT on Test, or better, with every aggregator"]


def test_claims_do_not_hold_the_other_way_round() -> None:
    """With every SRCC turned round, only the claims that count or compare pairs could still hold."""
    assert [claim.holds(lambda *place: -paper_srcc(*place)) for claim in CLAIMS].count(True) == 0


def test_claims_are_open_where_a_number_is_missing() -> None:
    def nothing(table: str, row: str, name: str) -> float:
        raise KeyError(row)

    assert {claim.holds(nothing) for claim in CLAIMS} == {None}
