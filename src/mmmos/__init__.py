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
    from mmmos.bulk.results import compare
    from mmmos.bulk.tables import read_rows
    from mmmos.errors import AudioError, MmmosError
    from mmmos.inference.predictor import Predictor, from_pretrained, load
    from mmmos.integrations.dataset import score_dataset
    from mmmos.integrations.metric import Metric
    from mmmos.integrations.statistics import audio_quality
    from mmmos.model.push import push_to_hub
    from mmmos.scores import AXES, Scale, Scores
    from mmmos.version import VERSION as __version__  # noqa: N811

__all__ = [
    "AXES",
    "AudioError",
    "Clip",
    "Metric",
    "MmmosError",
    "Predictor",
    "Scale",
    "Scores",
    "__version__",
    "audio_quality",
    "compare",
    "encoders",
    "ensemble",
    "from_pretrained",
    "load",
    "losses",
    "metrics",
    "paper",
    "push_to_hub",
    "read_rows",
    "score_dataset",
    "scores",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AXES": "scores",
        "AudioError": "errors",
        "Clip": "audio.clip",
        "Metric": "integrations.metric",
        "MmmosError": "errors",
        "Predictor": "inference.predictor",
        "Scale": "scores",
        "Scores": "scores",
        "__version__": "version:VERSION",
        "audio_quality": "integrations.statistics",
        "compare": "bulk.results",
        "from_pretrained": "inference.predictor",
        "load": "inference.predictor",
        "push_to_hub": "model.push",
        "read_rows": "bulk.tables",
        "score_dataset": "integrations.dataset",
    },
    ("encoders", "ensemble", "losses", "metrics", "paper", "scores"),
)
