"""No-reference audio quality prediction for speech, music and sound, on four axes.

    import mmmos
    scorer = mmmos.load()
    scorer.score("clip.wav").PQ

`mmmos.inference.predictor` is the file to read first; docs/ARCHITECTURE.md lists the others in layer order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmmos.lazy import lazy_exports

if TYPE_CHECKING:
    from mmmos import encoders, ensemble, losses, metrics, paper, scores
    from mmmos.audio.clip import Clip
    from mmmos.errors import AudioError, MmmosError
    from mmmos.inference.predictor import Predictor, from_pretrained, load
    from mmmos.scores import AXES, Scale, Scores
    from mmmos.version import VERSION as __version__  # noqa: N811

__all__ = [
    "AXES",
    "AudioError",
    "Clip",
    "MmmosError",
    "Predictor",
    "Scale",
    "Scores",
    "__version__",
    "encoders",
    "ensemble",
    "from_pretrained",
    "load",
    "losses",
    "metrics",
    "paper",
    "scores",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AXES": "scores",
        "AudioError": "errors",
        "Clip": "audio.clip",
        "MmmosError": "errors",
        "Predictor": "inference.predictor",
        "Scale": "scores",
        "Scores": "scores",
        "__version__": "version:VERSION",
        "from_pretrained": "inference.predictor",
        "load": "inference.predictor",
    },
    ("encoders", "ensemble", "losses", "metrics", "paper", "scores"),
)
