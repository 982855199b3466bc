"""The four axes and their order, the scores of a clip, and their scale: values, which `inference` computes.

In the order of data flow: axes, scale, clip.
"""

from mmmos.scores.axes import AXES as AXES
from mmmos.scores.axes import AXIS_NAMES as AXIS_NAMES
from mmmos.scores.axes import BASES as BASES
from mmmos.scores.axes import SHOWN as SHOWN
from mmmos.scores.clip import ClipError as ClipError
from mmmos.scores.clip import Provenance as Provenance
from mmmos.scores.clip import Scores as Scores
from mmmos.scores.clip import file_state as file_state
from mmmos.scores.scale import LABEL_RANGE as LABEL_RANGE
from mmmos.scores.scale import LabelRange as LabelRange
from mmmos.scores.scale import Scale as Scale
from mmmos.scores.scale import parse_scale as parse_scale
from mmmos.scores.scale import scale_name as scale_name
