"""The claims of the paper about its results, which are checked on the paper's numbers and on those of an experiment.

Each claim is about SRCC, the metric that the paper selects models by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmmos.paper import CONFIGURATIONS, ENCODER_SUBSETS, ENSEMBLES, printed_figures

SRCC = Callable[[str, str, str], float]
"""SRCC of a table's row on a set, at the level of the paper's table. Raises KeyError if it is missing."""

LOSSES = ("CCC", "Con", "DCQ", "UT")
NETWORKS = ("BiEnc MLP", "TriEnc MLP", "TriEnc BLSTM(t)", "TriEnc BLSTM(h)")


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, and the function that checks it."""

    text: str
    check: Callable[[SRCC], bool]

    def holds(self, srcc: SRCC) -> bool | None:
        """Whether the claim holds; None if a number is missing."""
        try:
            return self.check(srcc)
        except KeyError:
            return None


def paper_srcc(table: str, row: str, name: str) -> float:
    """The paper's own SRCC."""
    return printed_figures(table, row, name, "system" if name == "Test" else "utterance")["SRCC"]


def _two_best_encoders(srcc: SRCC) -> bool:
    on_dev = {row: srcc("II", row, "Dev") for row in ENCODER_SUBSETS}
    best = sorted(on_dev.values())[-2]
    return min(on_dev["WavLM+M2D"], on_dev["WavLM+MuQ+M2D"]) >= best


def _single_encoders_poor(srcc: SRCC) -> bool:
    on_dev = {row: srcc("II", row, "Dev") for row in ENCODER_SUBSETS}
    others = [value for row, value in on_dev.items() if row not in ("WavLM", "MuQ")]
    return max(on_dev["WavLM"], on_dev["MuQ"]) < min(others)


def _ut_leads_on_dev(srcc: SRCC) -> bool:
    ranks = [
        sum(srcc("III", f"{network} {loss}", "Dev") > srcc("III", f"{network} UT", "Dev") for loss in LOSSES)
        for network in NETWORKS
    ]
    best = max(CONFIGURATIONS, key=lambda row: srcc("III", row, "Dev"))
    return max(ranks) <= 1 and best.endswith(" UT")


def _ut_falls_behind_on_test(srcc: SRCC) -> bool:
    leads = [
        srcc("III", f"{network} UT", "Test") >= max(srcc("III", f"{network} {loss}", "Test") for loss in LOSSES)
        for network in NETWORKS
    ]
    return sum(leads) == 1


def _con_and_dcq_generalize(srcc: SRCC) -> bool:
    return all(
        srcc("III", f"{network} {loss}", "Test") >= srcc("III", f"{network} UT", "Test")
        for network in NETWORKS
        for loss in ("Con", "DCQ")
    )


def _muq_boosts_test(srcc: SRCC) -> bool:
    return all(
        srcc("III", f"{network} {loss}", "Test") > srcc("III", f"BiEnc MLP {loss}", "Test")
        for network in NETWORKS[1:]
        for loss in LOSSES
    )


def _pam_predicts_test(srcc: SRCC) -> bool:
    first, second = (sorted(CONFIGURATIONS, key=lambda row: -srcc("III", row, name))[:2] for name in ("PAM", "Test"))
    return set(first) == set(second)


def _pam_top_4_is_best(srcc: SRCC) -> bool:
    return all(srcc("IV", "pam_top_4", name) >= srcc("IV", row, name) for name in ("PAM", "Test") for row in ENSEMBLES)


def _dev_top_8_is_worst(srcc: SRCC) -> bool:
    return all(srcc("IV", "dev_top_8", "Test") <= srcc("IV", row, "Test") for row in ENSEMBLES)


CLAIMS = (
    Claim("WavLM+M2D and WavLM+MuQ+M2D have the highest SRCC on Dev", _two_best_encoders),
    Claim("WavLM alone and MuQ alone are the worst encoders on Dev", _single_encoders_poor),
    Claim("UT has the highest SRCC on Dev, and is first or second with every aggregator", _ut_leads_on_dev),
    Claim("UT is the best loss on Test with only one aggregator", _ut_falls_behind_on_test),
    Claim("Con and DCQ are as good as UT on Test, or better, with every aggregator", _con_and_dcq_generalize),
    Claim("with MuQ, SRCC on Test is always higher than without", _muq_boosts_test),
    Claim("the two best on PAM are the two best on Test", _pam_predicts_test),
    Claim("PAM top 4 has the highest SRCC of the ensembles, on PAM and on Test", _pam_top_4_is_best),
    Claim("Dev top 8 has the lowest SRCC of the ensembles on Test", _dev_top_8_is_worst),
)
"""Sections V-A, V-C and V-D, in the order of the text."""
