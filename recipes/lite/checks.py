"""Checks of `lite` on signals whose effect on a score is known without raters; writes recipes/lite/check_results.json.

    python -m recipes.lite.checks --data DIR [--work build/lite] [--model lite]

    gain             from -20 to +6 dB: changes no score
    clipping         hard, by 25 dB: lowers PQ of every song
    quantisation     to 6 bits: lowers PQ
    low pass         the lower, the lower PQ
    mel bands        rebuilt from few of them by Griffin and Lim's algorithm: lowers PQ
    noise 8-12 kHz   on speech that ends at 8 kHz: does not raise PQ
    short            excerpts of 1 to 2 s: keep the domain of the clip
    separated        vocals out of mixtures by worse and worse masks: PQ falls
    crossfades       between two domains, in steps of 2 dB: no score jumps

The clips are the rated songs at full bandwidth and free recordings. Most were in the training data of some members;
what is checked here is not learned from labels.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

import mmmos
from mmmos.io.lists import read_rows
from mmmos.metrics import srcc
from mmmos.scores import AXES, Scores
from recipes.lite import chains, versions
from recipes.lite.build import ROOT
from recipes.lite.corpus import seed
from recipes.lite.degradations import RATE
from recipes.lite.heads import CLEAN, DOMAINS
from recipes.lite.separated import KINDS, read_vocals

Wave = NDArray[np.float64]
Array = NDArray[np.float64]
Clip = tuple[Wave, int]  # samples [S] and their rate (Hz)
Score = Callable[[Wave, int], Scores]

RESULTS = Path(__file__).with_name("check_results.json")
CLIPS = 6  # of each domain, and songs of `separated`
GAINS_DB = (-20.0, -10.0, 6.0)
PEAK = 0.45  # of clips, so that a gain of 6 dB does not clip them
CLIPPING_DB = 25.0
BITS = 6
LOW_PASS_HZ = (11_000, 8_000, 5_000, 3_000)
MEL_BANDS = (64, 32)
REBUILT_SECONDS = 5.0  # of a clip that is rebuilt, which takes long
NOISE_DB = (20.0, 10.0)  # signal-to-noise ratios
VOICE_HZ, NOISE_HZ = 8_000, 12_000  # upper edges of the speech and of the noise above it
SHORT = (1.0, 2.0)  # s
FADE_DB = 40.0  # level of one clip above the other, at the start of a crossfade and, negative, at its end
STEPS = 40  # of a crossfade
CROSSFADES = 3  # pairs of clips


def gain(score: Score, clips: Mapping[str, Sequence[Clip]]) -> dict[str, dict[str, float]]:
    """The largest change of each axis by a gain, per domain."""
    found = {}
    for domain, own in clips.items():
        changes = [
            np.abs(points(score(x * 10 ** (db / 20), rate)) - points(score(x, rate)))
            for x, rate in own
            for db in GAINS_DB
        ]
        found[domain] = by_axis(np.max(changes, axis=0))
    return found


def lowered(score: Score, clips: Iterable[Clip], change: Callable[[Wave, int], Wave]) -> dict[str, float]:
    """The fraction of clips whose PQ a change lowers, and by how many points on average."""
    drops = [score(x, rate).PQ - score(change(x, rate), rate).PQ for x, rate in clips]
    return {"lowered": float(np.mean(np.array(drops) > 0)), "points": float(np.mean(drops)), "clips": len(drops)}


def clipped(x: Wave, rate: int) -> Wave:
    """Samples [S] clipped hard after a gain of `CLIPPING_DB` above full scale."""
    peak = float(np.abs(x).max())
    return np.clip(x / peak * 10 ** (CLIPPING_DB / 20), -1, 1) * peak


def quantised(x: Wave, rate: int) -> Wave:
    """Samples [S] rounded to `BITS` bits."""
    step = 2.0 ** (1 - BITS) * float(np.abs(x).max())
    return np.round(x / step) * step


def low_pass(hz: float) -> Callable[[Wave, int], Wave]:
    """A function that removes what is above `hz`."""
    return lambda x, rate: np.asarray(sosfiltfilt(butter(8, min(hz, 0.49 * rate), fs=rate, output="sos"), x))


def rebuilt(bands: int) -> Callable[[Wave, int], Wave]:
    """A function that keeps the power in mel bands only, and invents the rest."""

    def change(x: Wave, rate: int) -> Wave:
        mel = librosa.feature.melspectrogram(y=x, sr=rate, n_mels=bands)
        magnitude = librosa.feature.inverse.mel_to_stft(mel, sr=rate)
        return np.asarray(librosa.griffinlim(magnitude, length=len(x), random_state=0))

    return change


def noisy_above(snr: float) -> Callable[[Wave, int], Wave]:
    """A function that adds noise between `VOICE_HZ` and `NOISE_HZ` at a signal-to-noise ratio (dB)."""

    def change(x: Wave, rate: int) -> Wave:
        noise = np.random.default_rng(0).standard_normal(len(x))
        return chains.add(x, chains.band(noise, rate, VOICE_HZ, NOISE_HZ, 8), snr)

    return change


def narrow_voices(clips: Sequence[Clip]) -> list[Clip]:
    """Speech at 24 kHz that ends at `VOICE_HZ`."""
    rate = 2 * NOISE_HZ
    return [(low_pass(VOICE_HZ)(soxr.resample(x, own, rate), rate), rate) for x, own in clips]


def short(score: Score, clips: Mapping[str, Sequence[Clip]]) -> dict[str, dict[str, float]]:
    """Per domain, the fraction of excerpts that are classified as their clip is, and the mean change of PQ."""
    found = {}
    for domain, own in clips.items():
        rng = np.random.default_rng(seed("short", domain))
        same, moved = [], []
        for x, rate in own:
            size = min(len(x), int(rng.uniform(*SHORT) * rate))
            start = int(rng.integers(len(x) - size + 1))
            whole, part = score(x, rate), score(x[start : start + size], rate)
            same.append(whole.domain == part.domain)
            moved.append(abs(whole.PQ - part.PQ))
        found[domain] = {"same": float(np.mean(same)), "points": float(np.mean(moved)), "clips": len(own)}
    return found


def separated(score: Score, songs: Path) -> dict[str, Any]:
    """Mean over songs of the SRCC of PQ with how well vocals are separated from their mixture, by kind of fault."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    music: list[bool] = []
    for _, made in itertools.islice(read_vocals(songs), CLIPS):
        scores = {step: score(x, RATE) for step, x in made.items()}
        for kind, own in found.items():
            steps = {step: item.PQ for (name, step), item in scores.items() if name in (kind, CLEAN)}
            own.append(srcc(np.array(list(steps.values())), -np.array(list(steps))))
        music += [item.domain == "music" for item in scores.values()]
    return {kind: float(np.mean(own)) for kind, own in found.items()} | {"music": float(np.mean(music)), "songs": CLIPS}


def crossfades(score: Score, clips: Mapping[str, Sequence[Clip]]) -> dict[str, dict[str, float]]:
    """The largest step of each axis, for each two domains."""
    found = {}
    for one, other in itertools.combinations(DOMAINS, 2):
        pairs = list(zip(clips[one], clips[other], strict=False))[:CROSSFADES]
        found[f"{one} to {other}"] = by_axis(np.max([crossfade(score, a, b) for a, b in pairs], axis=0))
    return found


def crossfade(score: Score, one: Clip, other: Clip) -> Array:
    """The largest step of each axis [A] as one clip fades into another at constant power, in equal steps in dB."""
    rate = max(one[1], other[1])
    waves = [soxr.resample(x, own, rate) for x, own in (one, other)]
    size = min(map(len, waves))
    first, second = (x[:size] / max(float(np.sqrt(np.mean(x[:size] ** 2))), 1e-9) * 0.05 for x in waves)
    parts = 1 / (1 + 10 ** (np.linspace(FADE_DB, -FADE_DB, STEPS + 1) / 10))
    mixed = [np.sqrt(1 - part) * first + np.sqrt(part) * second for part in parts]
    return np.abs(np.diff([points(score(x, rate)) for x in mixed], axis=0)).max(axis=0)


def points(scores: Scores) -> Array:
    """[A] in the order of AXES."""
    return np.array([scores[axis] for axis in AXES])


def by_axis(values: Array) -> dict[str, float]:
    """Values [A] by axis."""
    return dict(zip(AXES, map(float, values), strict=True))


def read_clips(data: Path, work: Path) -> dict[str, list[Clip]]:
    """`CLIPS` of each domain: songs of different groups, and free recordings of speech and sound."""
    paths = {"music": song_paths(data / "musdb18_aes")}
    for domain in ("speech", "sound"):
        free = [row["path"] for row in versions.free_rows(work) if row["domain"] == domain]
        paths[domain] = [work / "corpus" / path for path in free]
    chosen = {name: sorted(own, key=lambda path: seed("check", path.name))[:CLIPS] for name, own in paths.items()}
    return {name: [_read(path) for path in chosen[name]] for name in DOMAINS}


def song_paths(songs: Path) -> list[Path]:
    """Files of the rated clips whose labels are not doubtful."""
    rows = read_rows(songs / "manifest.csv")
    return [songs / "audio_44k" / Path(row["path"]).name for _, row in rows if row["label_suspect"] == "0"]


def _read(path: Path) -> Clip:
    x, rate = soundfile.read(path, always_2d=True)
    mono = x.mean(axis=1)
    return mono * (PEAK / float(np.abs(mono).max())), rate


def check(score: Score, clips: Mapping[str, Sequence[Clip]], songs: Path) -> dict[str, Any]:
    """Every check."""
    voices = narrow_voices(clips["speech"])
    starts = {name: [(x[: int(REBUILT_SECONDS * rate)], rate) for x, rate in own] for name, own in clips.items()}
    return {
        "gain": gain(score, clips),
        "clipping": lowered(score, map(_read, song_paths(songs)), clipped),
        "quantisation": {name: lowered(score, own, quantised) for name, own in clips.items()},
        "low pass": {str(hz): lowered(score, clips["music"], low_pass(hz)) for hz in LOW_PASS_HZ},
        "mel bands": {
            f"{name}, {bands}": lowered(score, own, rebuilt(bands))
            for name, own in starts.items()
            for bands in MEL_BANDS
        },
        "noise 8-12 kHz": {f"{db:g}": lowered(score, voices, noisy_above(db)) for db in NOISE_DB},
        "short": short(score, clips),
        "separated": separated(score, songs),
        "crossfades": crossfades(score, clips),
    }


def main() -> None:
    """Score the signals and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of musdb18_aes")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lite", help="folder of intermediate results")
    parser.add_argument("--model", default="lite", help="name or folder of the model")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    options = parser.parse_args()
    predictor = mmmos.load(options.model)
    clips = read_clips(options.data.resolve(), options.work.resolve() / "corpus")

    def score(x: Wave, rate: int) -> Scores:
        return predictor.score(x.astype(np.float32), sample_rate=rate)

    found = check(score, clips, options.data.resolve() / "musdb18_aes")
    options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
