"""NISQA v2 (Mittag, Naderi, Chehadi and Möller, Interspeech 2021): speech quality and four of its dimensions.

    wave 48 kHz ► log-mel [48, L], a frame every 10 ms ► segments of 15 frames, one every 4
         ► 6 convolutions ► linear 384 -> 64 ► 2 transformer blocks ► 64 values per 40 ms
         ► 5 attention poolings ► overall quality, noisiness, discontinuity, coloration, loudness (1-5, 5 is best)

Reads nisqa.tar, which github.com/gabrielmittag/NISQA releases (weights: CC BY-NC-SA 4.0). Trained on the ratings of
14,000 clips of transmitted speech. Batch norms are folded into the convolutions before them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmos.encoders.base import Encoder
from mmmos.encoders.mel import mel_filters
from mmmos.encoders.weights import fold_batch_norms, load_strictly, read_checkpoint
from mmmos.errors import ModelFormatError
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions

if TYPE_CHECKING:
    from typing import Self

RATE = 48_000  # Hz
WINDOW = 960  # samples, 20 ms
HOP = 480  # samples, 10 ms
FFT = 4096  # samples
MELS = 48
TOP_HZ = 20_000.0  # where the highest mel band ends
FLOOR = 1e-4  # of magnitudes, -80 dB
RANGE_DB = 80.0  # below the clip's loudest value; fainter ones are raised to this limit
SEGMENT, STEP = 15, 4  # log-mel frames: a segment, and from one to the next
CHANNELS = (1, 16, 32, 64, 64, 64, 64)  # of the convolutions
POOLED = {0: (24, 7), 1: (12, 5), 3: (6, 3)}  # convolution -> mels and frames after it
WIDTH = 64  # of the transformer
BLOCKS = 2
SCORES = ("mos", "noisiness", "discontinuity", "coloration", "loudness")
EPS = 1e-5  # of every batch norm

SETTINGS = {
    "model": "NISQA_DIM",
    "ms_sr": None,
    "ms_fmax": 20_000,
    "ms_n_fft": FFT,
    "ms_hop_length": HOP / RATE,
    "ms_win_length": WINDOW / RATE,
    "ms_n_mels": MELS,
    "ms_seg_length": SEGMENT,
    "ms_seg_hop_length": STEP,
    "cnn_model": "adapt",
    "cnn_pool_1": [24, 7],
    "cnn_pool_2": [12, 5],
    "cnn_pool_3": [6, 3],
    "cnn_fc_out_h": None,
    "td": "self_att",
    "td_sa_nhead": 1,
    "td_sa_pos_enc": False,
    "td_sa_num_layers": BLOCKS,
    "td_2": "skip",
    "pool": "att",
}
"""Settings of the network in a checkpoint's `args` that its tensors do not determine."""


class NISQA(Encoder):
    """Frames of 64 transformer outputs and, as the last five columns, the clip's `SCORES`.

    The published program reads a file at the file's own rate; here it is 48 kHz. Frames attend to the whole clip: split
    long clips into windows. The cost grows with the number of frames, and for long clips with its square.
    """

    name = "nisqa"
    sample_rate = RATE
    dim = WIDTH + len(SCORES)
    block_dims = (WIDTH, len(SCORES))
    rate_hz = RATE / HOP / STEP
    min_samples = (SEGMENT - 1) * HOP
    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        """With random weights; `from_checkpoint` reads the trained ones."""
        super().__init__()
        last = len(CHANNELS) - 2
        self.convs = nn.ModuleList(
            nn.Conv2d(CHANNELS[i], CHANNELS[i + 1], (3, 3), padding=(1, int(i != last))) for i in range(last + 1)
        )
        self.project = nn.Linear(POOLED[3][0] * CHANNELS[-1], WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.blocks = nn.Sequential(*(_Block() for _ in range(BLOCKS)))
        self.pools = nn.ModuleList(_Pool() for _ in SCORES)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        filters = torch.from_numpy(mel_filters(RATE, FFT, MELS, high_hz=TOP_HZ)).float()
        self.register_buffer("filters", filters, persistent=False)
        self.train()

    @classmethod
    def from_checkpoint(cls, path: Path, options: LoadOptions = DEFAULT_OPTIONS) -> Self:
        """Read nisqa.tar, which is a PyTorch file. Raises `ModelNotFoundError`, `ModelFormatError`."""
        encoder = cls()
        load_strictly(encoder, _own(read_checkpoint(Path(path), options), str(path)), str(path))
        return encoder

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> [B, T, 69], T = ceil((S // 480 - 13) / 4)."""
        hidden = self._hidden(waves)
        scores = self._scores(hidden)[:, None].expand(-1, hidden.shape[1], -1)
        return torch.cat([hidden, scores], dim=2)

    def score(self, waves: Tensor) -> Tensor:
        """The five `SCORES` of each clip, [B, S] -> [B, 5]."""
        return self._scores(self._hidden(waves))

    def log_mel(self, waves: Tensor) -> Tensor:
        """Level in mel bands in dB, at most 80 dB below the clip's highest: [B, S] -> [B, 48, S // 480 + 1]."""
        with torch.autocast(waves.device.type, enabled=False):
            bins = torch.stft(waves.float(), FFT, HOP, WINDOW, self.window, return_complex=True)
            level = 20 * (self.filters @ bins.abs()).clamp(min=FLOOR).log10()
            return torch.maximum(level, level.amax(dim=(1, 2), keepdim=True) - RANGE_DB)

    def _hidden(self, waves: Tensor) -> Tensor:
        """[B, S] -> transformer outputs [B, T, 64]."""
        segments = self.log_mel(waves).unfold(2, SEGMENT, STEP).transpose(1, 2)  # [B, T, 48, 15]
        x = segments.flatten(0, 1)[:, None].to(self.project.weight.dtype)
        for i, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            if i in POOLED:
                x = F.adaptive_max_pool2d(x, POOLED[i])
        x = self.norm(self.project(x.reshape(*segments.shape[:2], -1)))
        hidden: Tensor = self.blocks(x)
        return hidden

    def _scores(self, hidden: Tensor) -> Tensor:
        return torch.cat([pool(hidden) for pool in self.pools], dim=1)


class _Block(nn.Module):
    """Attention with one head, and a perceptron; a norm after each sum. [B, T, 64] -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.out(F.scaled_dot_product_attention(*self.qkv(x).chunk(3, dim=2))))
        out: Tensor = self.norm2(x + self.down(F.relu(self.up(x))))
        return out


class _Pool(nn.Module):
    """Frames weighed by a perceptron, then a score: [B, T, 64] -> [B, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, 1))
        self.rating = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.attend(x).softmax(dim=1).transpose(1, 2) @ x
        score: Tensor = self.rating(pooled[:, 0])
        return score


NAMES = (
    (r"^cnn\.model\.conv(\d)\.", lambda found: f"convs.{int(found[1]) - 1}."),
    (r"^time_dependency\.model\.linear\.", "project."),
    (r"^time_dependency\.model\.norm1\.", "norm."),
    (r"^time_dependency\.model\.layers\.", "blocks."),
    (r"self_attn\.in_proj_", "qkv."),
    (r"self_attn\.out_proj\.", "out."),
    (r"^(blocks\.\d\.)linear1\.", r"\1up."),
    (r"^(blocks\.\d\.)linear2\.", r"\1down."),
    (r"^pool_layers\.(\d)\.model\.linear1\.", r"pools.\1.attend.0."),
    (r"^pool_layers\.(\d)\.model\.linear2\.", r"pools.\1.attend.2."),
    (r"^pool_layers\.(\d)\.model\.linear3\.", r"pools.\1.rating."),
)
"""Replacements that turn the published names into ours."""


def _own(held: Any, source: str) -> dict[str, Tensor]:
    """Weights by our keys, with batch norms folded, of a checkpoint with the network's settings."""
    if not isinstance(held, dict) or held.keys() != {"args", "model_state_dict"}:
        raise ModelFormatError(f"{source} does not hold args and model_state_dict, as NISQA's checkpoints do")
    args, state = held["args"], held["model_state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelFormatError(f"{source} holds no table of tensors")
    others = [f"{key} is {args.get(key)!r}, not {value!r}" for key, value in SETTINGS.items() if args.get(key) != value]
    if others:
        raise ModelFormatError(f"{source} is of another network than NISQA v2: {', '.join(others)}")
    norms = {f"cnn.model.bn{i}.": f"cnn.model.conv{i}." for i in range(1, len(CHANNELS))}
    own = fold_batch_norms(state, norms, EPS, source)
    for pattern, replacement in NAMES:
        own = {re.sub(pattern, replacement, key): value for key, value in own.items()}
    return own
