"""MMMOS says how good a clip of speech, music or sound is, without a reference.

    import mmmos
    scorer = mmmos.load()
    scorer.score("clip.wav").PQ

`mmmos.predictor` is the file to read first; docs/ARCHITECTURE.md lists the others in their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmmos.clips import Clip
    from mmmos.errors import AudioError, MmmosError
    from mmmos.predictor import Predictor, from_pretrained
    from mmmos.scores import AXES, Scale, Scores

__all__ = ["AXES", "AudioError", "Clip", "MmmosError", "Predictor", "Scale", "Scores", "from_pretrained", "load"]

# torch takes two seconds to import; `import mmmos` does not wait for it.
_HOMES = {
    "AXES": "scores",
    "AudioError": "errors",
    "Clip": "clips",
    "MmmosError": "errors",
    "Predictor": "predictor",
    "Scale": "scores",
    "Scores": "scores",
    "from_pretrained": "predictor",
}


def load(name: str = "lite", **options: Any) -> Predictor:
    """A scorer: `lite`, `audiobox`, a model folder, or a hub model's id.

    `options` are those of `from_pretrained`: device, dtype, batch_size, deadline (s), trust_checkpoint,
    accept_licenses, revision, cache_dir, local_files_only, token. Raises `ModelNotFoundError` if there is none
    of that name; another is never taken in its place.
    """
    from mmmos.predictor import from_pretrained

    return from_pretrained(name, **options)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from mmmos.version import VERSION

        return VERSION
    if name not in _HOMES:
        raise AttributeError(f"module 'mmmos' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mmmos.{_HOMES[name]}"), name)
