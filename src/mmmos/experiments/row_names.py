"""Names of rows in result tables: the paper's names for the paper's encoders, real names for other encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmmos.hub.published import has_published_weights

LABELS = {
    "mlp": "MLP",
    "blstm_h": "BLSTM(h)",
    "blstm_t": "BLSTM(t)",
    "ccc": "CCC",
    "con": "Con",
    "dcq": "DCQ",
    "ut": "UT",
    "wavlm": "WavLM",
    "muq": "MuQ",
    "m2d": "M2D",
    "distillmos": "DistillMOS",
    "dnsmos": "DNSMOS",
    "spectrum": "Spectrum",
    "fullband": "FullBand",
    "student": "Student",
    "efficientat": "EfficientAT",
    "nisqa": "NISQA",
}
"""Setting or encoder -> its name in tables, as in the paper."""

PAPER_ENCODERS = ("wavlm", "muq", "m2d")
"""Names in a grid for the paper's encoders; tables name the encoder that replaces one."""

NETWORKS = {("wavlm", "m2d"): "BiEnc", PAPER_ENCODERS: "TriEnc"}
"""Combination of encoders -> its name in the paper."""


def encoder_words(subset: Sequence[str], encoders: Mapping[str, str]) -> dict[str, str]:
    """The values of `{encoders}` and `{network}` in the name of a row; the source "" means the paper's encoder."""
    sources = {name: encoders.get(name) or name for name in subset}
    names = "+".join(_encoder_label(name, source) for name, source in sources.items())
    papers = all(is_papers(name, source) for name, source in sources.items())
    return {"encoders": names, "network": NETWORKS.get(tuple(subset), names) if papers else names}


def is_papers(name: str, source: str) -> bool:
    """Whether a name in a grid stands for an encoder of the paper with its published weights."""
    return name in PAPER_ENCODERS and source.partition("=")[0] == name and has_published_weights(source)


def _encoder_label(name: str, source: str) -> str:
    """The name in the grid; for a paper encoder the one actually used, with "own" for other weights."""
    if name not in PAPER_ENCODERS:
        return name
    encoder = source.partition("=")[0]
    label = LABELS.get(encoder, encoder)
    return f"own {label}" if encoder in PAPER_ENCODERS and not has_published_weights(source) else label
