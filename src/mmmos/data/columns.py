"""Names of columns in lists of clips and of labels."""

from __future__ import annotations

from mmmos.scores import AXES, AXIS_NAMES

# What columns may be called, here and where scores are read from a file.
PATH_COLUMNS = ("path", "data_path", "audio_filepath", "file")


ID_COLUMNS = ("id", "sample_id")


TEXT_COLUMNS = ("system", "domain", "group", "set", "source", "stratum")


AXIS_COLUMNS = {axis: (axis, AXIS_NAMES[axis].replace(" ", "_")) for axis in AXES}
"""What the column of an axis may be called, where labels and where scores are read."""


RATER_COLUMNS = ("rater", "rater_id", "listener", "listener_id", "annotator", "annotator_id", "worker", "worker_id")


LABEL_NAMES = (*AXES, *(AXIS_COLUMNS[axis][1] for axis in AXES))
"""What is expected of a list of labels, for messages."""
