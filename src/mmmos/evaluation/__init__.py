"""Agreement of scores, which `inference` computes, with human ratings; the formulas are in `metrics`.

In the order of data flow: row_details, predictions, matching, pairing, comparison, agreement, rating_scales, verdict,
ceiling, raters, listed, list_evaluation, track2, published, leaderboard.
"""

from typing import TYPE_CHECKING

from mmmos.lazy import lazy_exports

if TYPE_CHECKING:
    from mmmos.evaluation.agreement import compare as compare
    from mmmos.evaluation.agreement import evaluate as evaluate

__getattr__, __dir__ = lazy_exports(__name__, {"compare": "agreement", "evaluate": "agreement"})
