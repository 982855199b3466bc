"""The first page of a report, on results made here and on the paper's own numbers."""

from __future__ import annotations

import math

from mmmos.experiments.results import Result
from mmmos.experiments.summary import summary
from mmmos.paper import COLUMNS, ROWS, printed_figures


def of_paper() -> list[Result]:
    """The paper's Tables II to IV as results of one seed."""
    return [
        Result(
            table,
            row,
            42,
            name,
            level,
            "composite",
            100,
            **printed_figures(table, row, name, level),
            bias=0.0,
            debiased_MSE=0.1,
            constant_MSE=1.0,
        )
        for table in ("II", "III", "IV")
        for row in ROWS[table]
        for name, level in COLUMNS[table]
    ]


def test_summary_of_the_papers_numbers() -> None:
    text = "\n".join(summary(of_paper()))
    assert "| composite | BiEnc MLP UT | 0.849 | 0.911 | - | 0.361 | 1.000 |" in text
    lines = [line for line in text.splitlines() if line.endswith(("| yes |", "| no |", "| not run |"))]
    assert len(lines) == 9
    for line in lines:
        here, theirs = line.split(" | ")[1:]
        assert here == theirs.removesuffix(" |")
    assert "- II, WavLM: did not converge on composite (1 of 1 run)" in text


def test_summary_reads_rows_in_the_place_of_the_papers() -> None:
    results = [Result(**(vars(one) | {"row": f"my {one.row}"})) if one.table != "IV" else one for one in of_paper()]
    roles = {f"my {row}": row for table in ("II", "III") for row in ROWS[table]}
    assert "not run" not in "\n".join(summary(results, roles=roles))
    assert "not run" in "\n".join(summary(results))


def test_summary_names_failures_and_omits_undefined_figures() -> None:
    one = Result("Mine", "a", 1, "Dev", "utterance", "PQ", 5, *[math.nan] * 6)
    text = "\n".join(summary([one], {"Mine": ["a", "b_c"]}))
    assert "None: no run has an SRCC." in text
    assert "- failed: Mine b\\_c" in text
    assert "claims" not in text
