"""Agreement of predictions with ratings: error, correlation and rank correlation, per clip or per system.

In the order of data flow: ranks, functions, intervals, differences.
"""

from mmmos.metrics.functions import ALL_METRICS as ALL_METRICS
from mmmos.metrics.functions import LEVELS as LEVELS
from mmmos.metrics.functions import METRICS as METRICS
from mmmos.metrics.functions import Metric as Metric
from mmmos.metrics.functions import bias as bias
from mmmos.metrics.functions import composite as composite
from mmmos.metrics.functions import debiased_mse as debiased_mse
from mmmos.metrics.functions import distance_from_best as distance_from_best
from mmmos.metrics.functions import ktau as ktau
from mmmos.metrics.functions import lcc as lcc
from mmmos.metrics.functions import mse as mse
from mmmos.metrics.functions import srcc as srcc
from mmmos.metrics.functions import system_means as system_means
from mmmos.metrics.functions import system_metrics as system_metrics
from mmmos.metrics.functions import utterance_metrics as utterance_metrics
from mmmos.metrics.intervals import Difference as Difference
from mmmos.metrics.intervals import bootstrap as bootstrap
from mmmos.metrics.intervals import paired_bootstrap as paired_bootstrap
