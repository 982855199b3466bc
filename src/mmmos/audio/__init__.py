"""Audio input: decodes files, bytes or samples and cuts them into windows of 10 s.

In order of data flow: clip, containers, mpeg, pcm, libsndfile, joined, ffmpeg, source, decode, limits, warnings,
resampler, windows, isolated, decoder, prefetch.
"""

from typing import TYPE_CHECKING

from mmmos.lazy import lazy_exports

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip as Clip
    from mmmos.audio.windows import ClipReport as ClipReport
    from mmmos.audio.windows import Window as Window
    from mmmos.audio.windows import cut as cut

__getattr__, __dir__ = lazy_exports(
    __name__, {"Clip": "clip", "ClipReport": "windows", "Window": "windows", "cut": "windows"}
)
