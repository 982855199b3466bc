"""The trained part of a system, and its model folder.

In the order of data flow: fusion, layers, aggregators, heads, quality, calibration, info, system, folder, audiobox,
load, card, push.
"""

from typing import TYPE_CHECKING

from mmmos.lazy import lazy_exports

if TYPE_CHECKING:
    from mmmos.model.folder import save_model as save_model
    from mmmos.model.load import load_model as load_model
    from mmmos.model.system import ScoringModel as ScoringModel

__getattr__, __dir__ = lazy_exports(__name__, {"ScoringModel": "system", "load_model": "load", "save_model": "folder"})
