"""From clips to encoder features: the interface between audio and training.

In the order of data flow: source, crops, cache, extractor.
"""

from typing import TYPE_CHECKING

from mmmos.lazy import lazy_exports

if TYPE_CHECKING:
    from mmmos.features.cache import FeatureCache as FeatureCache
    from mmmos.features.crops import Crop as Crop
    from mmmos.features.extractor import FeatureExtractor as FeatureExtractor

__getattr__, __dir__ = lazy_exports(
    __name__, {"Crop": "crops", "FeatureCache": "cache", "FeatureExtractor": "extractor"}
)
