"""Column names in lists of clips and lists of labels."""

from __future__ import annotations

from mmmos.scores import AXES, AXIS_NAMES

# Accepted column names, in lists of clips and in files of scores.
PATH_COLUMNS = ("path", "data_path", "audio_filepath", "file")


ID_COLUMNS = ("id", "sample_id")


TEXT_COLUMNS = ("system", "domain", "group", "set", "source", "stratum")


AXIS_COLUMNS = {axis: (axis, AXIS_NAMES[axis].replace(" ", "_")) for axis in AXES}
"""The accepted column names of an axis, in lists of labels and in files of scores."""


RATER_COLUMNS = ("rater", "rater_id", "listener", "listener_id", "annotator", "annotator_id", "worker", "worker_id")


LABEL_NAMES = (*AXES, *(AXIS_COLUMNS[axis][1] for axis in AXES))
"""The label columns that a list of labels may have, for messages."""
