"""Older codecs of telephony, radio links and the early web: encoder and decoder without a file between them."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import av
import numpy as np
import soxr
from av.audio.codeccontext import AudioCodecContext

from recipes.lite.degradations import Wave

CODECS: dict[str, tuple[str, int, tuple[int, ...]]] = {
    "libopencore_amrnb": ("amrnb", 8_000, (4_750, 6_700, 12_200)),
    "g723_1": ("g723_1", 8_000, (6_300,)),
    "real_144": ("ra_144", 8_000, (8_000,)),
    "pcm_mulaw": ("pcm_mulaw", 8_000, (64_000,)),
    "g722": ("g722", 16_000, (64_000,)),
    "nellymoser": ("nellymoser", 22_050, (44_000,)),
    "sbc": ("sbc", 32_000, (64_000, 128_000)),
    "mp2": ("mp2", 44_100, (32_000, 48_000, 96_000)),
    "ac3": ("ac3", 44_100, (32_000, 48_000, 96_000)),
}
"""FFmpeg's encoder -> its decoder, sample rate (Hz) and bit rates (per second)."""


def transmitted(x: Wave, rate: int, encoder: str, bit_rate: int) -> Wave:
    """Samples [S] through an encoder of `CODECS` and its decoder, [S], with the delay of both."""
    decoder, own, _ = CODECS[encoder]
    sender = cast(AudioCodecContext, av.CodecContext.create(encoder, "w"))
    formats = [audio_format.name for audio_format in sender.codec.audio_formats or []]
    sender.sample_rate, sender.layout, sender.bit_rate = own, "mono", bit_rate
    sender.format = formats[0]
    sender.time_base = Fraction(1, own)
    sender.open()
    receiver = cast(AudioCodecContext, av.CodecContext.create(decoder, "r"))
    receiver.sample_rate, receiver.layout, receiver.extradata = own, "mono", sender.extradata
    narrow = soxr.resample(x / max(np.abs(x).max(), 1e-9), rate, own)
    fitted = av.AudioResampler(sender.format.name, "mono", own, sender.frame_size or 1024)
    frame = av.AudioFrame.from_ndarray(narrow.astype(np.float32)[None], "fltp", "mono")
    frame.sample_rate, frame.pts = own, 0
    back = av.AudioResampler("fltp", "mono", own)
    packets = [packet for part in (*fitted.resample(frame), None) for packet in sender.encode(part)]
    frames = [sample for packet in (*packets, None) for sample in receiver.decode(packet)]
    decoded = np.concatenate([part.to_ndarray()[0] for frame in frames for part in back.resample(frame)])
    y = soxr.resample(decoded.astype(float), own, rate)
    return np.pad(y, (0, max(0, len(x) - len(y))))[: len(x)] * np.abs(x).max()
