"""From labelled clips to a model folder.

In the order of data flow: settings, identity, dataset, batches, config, checkpoint, loop, ridge, closed_form, summary,
method, lists, saving, fit, ensembles, maps, calibrate.
"""

from typing import TYPE_CHECKING

from mmmos.lazy import lazy_exports

if TYPE_CHECKING:
    from mmmos.training.fit import train_folder as train_folder
    from mmmos.training.settings import Settings as Settings

__getattr__, __dir__ = lazy_exports(__name__, {"Settings": "settings", "train_folder": "fit"})
