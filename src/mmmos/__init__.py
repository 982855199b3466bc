"""No-reference audio quality prediction for speech, music and sound, on four axes.

    import mmmos
    scorer = mmmos.load()
    scorer.score("clip.wav").PQ

`mmmos.inference.predictor` is the file to read first; docs/ARCHITECTURE.md lists the others in layer order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

# torch takes two seconds to import; `import mmmos` does not wait for it.
_HOMES = {
    "AXES": "scores",
    "AudioError": "errors",
    "Clip": "audio.clip",
    "MmmosError": "errors",
    "Predictor": "inference.predictor",
    "Scale": "scores",
    "Scores": "scores",
    "from_pretrained": "inference.predictor",
    "load": "inference.predictor",
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "__version__":
        return import_module("mmmos.version").VERSION
    if name in _HOMES:
        return getattr(import_module(f"mmmos.{_HOMES[name]}"), name)
    if name in __all__:
        return import_module(f"mmmos.{name}")
    raise AttributeError(f"module 'mmmos' has no attribute {name!r}")
