"""Scoring: audio in, scores out.

In the order of data flow: predictor, stream, clip_scores, several, rows, resume, differentiable, selfcheck, doctor.
"""

from typing import TYPE_CHECKING

from mmmos.lazy import lazy_exports

if TYPE_CHECKING:
    from mmmos.inference.predictor import Predictor as Predictor
    from mmmos.inference.predictor import from_pretrained as from_pretrained

__getattr__, __dir__ = lazy_exports(__name__, {"Predictor": "predictor", "from_pretrained": "predictor"})
