"""Lossy codecs of FFmpeg, there and back."""

from __future__ import annotations

import io
from typing import cast

import av
import numpy as np
from av import AudioStream
from numpy.typing import NDArray


def through_codec(x: NDArray[np.float32], rate: int, codec: str, container: str, kbps: float) -> NDArray[np.float64]:
    """Samples [S] at a rate that the codec supports, encoded and decoded: [S'], with the encoder's delay."""
    data = io.BytesIO()
    with av.open(data, "w", format=container) as file:
        stream = cast(AudioStream, file.add_stream(codec, rate=rate, layout="mono"))
        stream.bit_rate = int(1000 * kbps)
        fifo = av.AudioResampler(stream.codec_context.format.name, "mono", rate)
        frame = av.AudioFrame.from_ndarray(x[None], "fltp", "mono")
        frame.sample_rate, frame.pts = rate, 0
        for part in (*fifo.resample(frame), *fifo.resample(None), None):
            file.mux(stream.encode(part))
    data.seek(0)
    with av.open(data, "r") as source:
        mono = av.AudioResampler("fltp", "mono", rate)
        frames = [f for part in source.decode(audio=0) for f in mono.resample(part)] + mono.resample(None)
    return np.concatenate([part.to_ndarray()[0] for part in frames]).astype(np.float64)
