"""The frozen encoders: from waveforms to frames.

In the order of data flow: base, device, torch_settings, weights, one module per encoder, table.
"""

from typing import TYPE_CHECKING

from mmmos.lazy import lazy_exports

if TYPE_CHECKING:
    from mmmos.encoders.base import Encoder as Encoder
    from mmmos.encoders.base import Features as Features
    from mmmos.encoders.table import ENCODERS as ENCODERS
    from mmmos.encoders.table import load_encoder as load_encoder

__getattr__, __dir__ = lazy_exports(
    __name__, {"ENCODERS": "table", "Encoder": "base", "Features": "base", "load_encoder": "table"}
)
