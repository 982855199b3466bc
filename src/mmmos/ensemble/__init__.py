"""Ensembles: the choice of models and their weights.

`selection` ranks and weights models, `paper` has the strategies of the MMMOS paper; `mmmos.model.system.combine`
computes the weighted mean.
"""

from mmmos.ensemble.paper import RULES, STRATEGIES, Strategy
from mmmos.ensemble.selection import best_first, composite_metrics, equal_weights, in_both, rank_models

__all__ = [
    "RULES",
    "STRATEGIES",
    "Strategy",
    "best_first",
    "composite_metrics",
    "equal_weights",
    "in_both",
    "rank_models",
]
