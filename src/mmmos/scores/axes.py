"""The four axes, their order, and the kinds of evidence for a score."""

AXES = ("CE", "CU", "PC", "PQ")
"""The order of the axes in every array. Files are read and written by name, never by position."""

AXIS_NAMES = {
    "CE": "Content Enjoyment",
    "CU": "Content Usefulness",
    "PC": "Production Complexity",
    "PQ": "Production Quality",
}

SHOWN = ("PQ", "PC", "CE", "CU")
"""The order of the axes in output for people, as in the paper."""

BASES = {
    "human": "the model was trained on people's ratings of such clips on this axis",
    "distilled-human": "a teacher model trained on people's ratings, and people's ranking in another kind of test",
    "extrapolated": "people's ratings of other clips of this kind, and degraded versions of those",
    "constructed": "synthetic degradations of known severity, and ratings of other clip types",
    "derived": "the clip's other scores, by the correlation of the axes in ratings of such clips",
}
"""The kinds of evidence for a score, strongest first."""
