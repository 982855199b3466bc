"""Agreement of scores with human ratings.

In the order of data flow: row_details, predictions, matching, comparison, agreement, rating_scales, ceiling, listed,
list_evaluation, track2, leaderboard.
"""

from typing import TYPE_CHECKING

from mmmos.lazy import lazy_exports

if TYPE_CHECKING:
    from mmmos.evaluation.agreement import compare as compare
    from mmmos.evaluation.agreement import evaluate as evaluate

__getattr__, __dir__ = lazy_exports(__name__, {"compare": "agreement", "evaluate": "agreement"})
