"""Markdown tables of how good `lite` is; scripts/docs.py puts them into README.md and docs/.

Figures are in recipes/lite/results.json, which recipes/lite/evaluate.py writes; checks on signals are in
recipes/lite/check_results.json, which recipes/lite/checks.py writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmmos.scores import AXES

RECIPES = Path(__file__).parent.parent


def lite() -> str:
    """The main figures of the model card: unseen songs and codecs."""
    found = _results()
    lines = ["| test clips, never used in training | axis | SRCC | 95 % interval | n |", "|---|---|---|---|---|"]
    songs = found["songs"]
    for axis in AXES:
        lines.append(f"| music, unseen songs | {axis} | {_interval(songs[axis])} | {songs['clips']} |")
    for name in ("unseen signals", "unseen codec families"):
        f = found["speech"]["codecs"][name]
        lines.append(f"| speech codecs, {name} | PQ | {_interval(f)} | {f['clips']} |")
    return "\n".join(lines)


def _interval(figures: dict[str, float]) -> str:
    return f"{figures['srcc']:.2f} | {figures['low']:.2f} to {figures['high']:.2f}"


def lite_speech() -> str:
    """Agreement with listeners on codecs, orders, and separated vocals."""
    found = _results()
    speech = found["speech"]
    lines = ["| speech codecs, MUSHRA | SRCC of PQ | 95 % interval | n |", "|---|--:|---|--:|"]
    for key, more in (("codecs", ""), ("codec systems", ", per system")):
        lines += [f"| {name}{more} | {_interval(f)} | {f['clips']} |" for name, f in speech[key].items()]
    order, noise = speech["order"], speech["noise"]
    lines += ["", f"| speech of unseen packages | {' | '.join(order)} | n |", f"|---|{'--:|' * len(order)}--:|"]
    own = order["lite"]
    worst = sorted((kind for kind in own if kind != "all"), key=lambda kind: own[kind][0])[:5]
    for kind in ("all", *worst):
        name = "the less degraded of two versions has the higher PQ" if kind == "all" else f"the same, {kind}"
        cells = " | ".join(f"{by[kind][0]:.0%}" for by in order.values())
        lines.append(f"| {name} | {cells} | {own[kind][1]} |")
    lines.append(f"| SRCC of PQ with the step of noise, all bandwidths | {_values(noise)} | |")
    lines += ["", "| family of degradations left out of training, too | pairs in order | n |", "|---|--:|--:|"]
    lines += [f"| {name} | {right:.0%} | {pairs} |" for name, (right, pairs) in speech["unseen degradations"].items()]
    names = {"separated": "separated from the mixture, worse and worse", "bleed": "with more and more of the rest"}
    lines += ["", "| vocals of unseen songs | SRCC within a song | 95 % interval | songs |", "|---|--:|---|--:|"]
    lines += [f"| {names[kind]} | {_interval(f)} | {f['songs']} |" for kind, f in found["separated"].items()]
    return "\n".join(lines)


def _values(values: dict[str, float]) -> str:
    return " | ".join(f"{value:.2f}" for value in values.values())


def lite_songs() -> str:
    """Agreement with the raters of unseen songs."""
    songs = _results()["songs"]
    lines = [
        f"| {songs['clips']} clips of {songs['songs']} unseen songs | SRCC | 95 % interval | mean absolute error "
        "| 95 % interval | mean label of the stem | mean label | AES-natural's mean of music |",
        "|---|--:|---|--:|---|--:|--:|--:|",
    ]
    for axis in AXES:
        f = songs[axis]
        errors = " | ".join(f"{f[name]:.2f}" for name in ("mae_stem", "mae_constant", "mae_natural"))
        agreement = f"{f['srcc']:.2f} | {f['low']:.2f} to {f['high']:.2f}"
        error = f"{f['mae']:.2f} | {f['mae_low']:.2f} to {f['mae_high']:.2f}"
        lines.append(f"| {axis} | {agreement} | {error} | {errors} |")
    lines += ["", "| mean of a tenth of them | label, worst | score | label, best | score |", "|---|--:|--:|--:|--:|"]
    for axis in AXES:
        tenths = [songs[axis][name][kind] for name in ("worst", "best") for kind in ("label", "score")]
        lines.append(f"| {axis} | {' | '.join(f'{value:.1f}' for value in tenths)} |")
    return "\n".join(lines)


def lite_nested() -> str:
    """The same clips with settings that were chosen on the others."""
    found = _results()
    nested, songs, speech = found["nested"], found["songs"], found["speech"]
    lines = ["| unseen clips | | settings chosen on other clips | on the same clips |", "|---|---|--:|--:|"]
    for axis in AXES:
        lines.append(f"| songs, {axis} | SRCC | {nested[axis]['srcc']:.2f} | {songs[axis]['srcc']:.2f} |")
    for axis in AXES:
        lines.append(f"| songs, {axis} | mean absolute error | {nested[axis]['mae']:.2f} | {songs[axis]['mae']:.2f} |")
    codecs = speech["codecs"]["unseen signals"]
    lines.append(f"| speech codecs, PQ | SRCC | {nested['codecs']['srcc']:.2f} | {codecs['srcc']:.2f} |")
    order = speech["order"]["lite"]["all"][0]
    lines.append(f"| degraded speech, PQ | pairs in order | {nested['order']:.0%} | {order:.0%} |")
    return "\n".join(lines)


def lite_similar() -> str:
    """How often music has the basis `human`, and labels lie within two standard deviations."""
    found = _results()
    lines = ["| music | basis `human` |", "|---|--:|"]
    lines += [f"| {name} | {fraction:.0%} |" for name, fraction in found["similar"].items()]
    lines += ["", f"| label within two `*_std` of the score | {' | '.join(AXES)} |", "|---|--:|--:|--:|--:|"]
    for name, axes in found["coverage"].items():
        lines.append(f"| {name} | {' | '.join(f'{axes[axis]:.0%}' for axis in AXES)} |")
    return "\n".join(lines)


def lite_checks() -> str:
    """Signals whose effect on a score is known without raters."""
    found = json.loads((RECIPES / "lite" / "check_results.json").read_text())
    axes = " | ".join(AXES)
    lines = [f"| largest change, points | {axes} |", "|---|--:|--:|--:|--:|"]
    rows = {f"{name}, gain of -20 to +6 dB": values for name, values in found["gain"].items()}
    rows |= {f"crossfade from {name}, a step of 2 dB": values for name, values in found["crossfades"].items()}
    lines += [f"| {name} | {' | '.join(f'{values[axis]:.2f}' for axis in AXES)} |" for name, values in rows.items()]
    changes = {"music, hard clipping by 25 dB": found["clipping"]}
    changes |= {f"{name}, quantisation to 6 bits": values for name, values in found["quantisation"].items()}
    changes |= {f"music, low pass at {int(hz) // 1000} kHz": values for hz, values in found["low pass"].items()}
    for name, values in found["mel bands"].items():
        domain, bands = name.split(", ")
        changes[f"{domain}, rebuilt from {bands} mel bands (Griffin-Lim)"] = values
    noisy = found["noise 8-12 kHz"].items()
    changes |= {f"speech up to 8 kHz, noise from 8 to 12 kHz at {db} dB": values for db, values in noisy}
    lines += ["", "| change of a clip | PQ falls | by points on average | clips |", "|---|--:|--:|--:|"]
    for name, f in changes.items():
        lines.append(f"| {name} | {f['lowered']:.0%} | {f['points']:.2f} | {f['clips']} |")
    lines += ["", "| excerpts of 1 to 2 s | domain of the whole clip | PQ differs by | clips |", "|---|--:|--:|--:|"]
    for name, f in found["short"].items():
        lines.append(f"| {name} | {f['same']:.0%} | {f['points']:.2f} | {f['clips']} |")
    own = found["separated"]
    note = (
        f"Vocals of {own['songs']} songs, separated from their mixture by worse and worse masks: mean SRCC of PQ "
        f"within a song {own['separated']:.2f}, with more and more of the rest of the song {own['bleed']:.2f}; "
        f"{own['music']:.0%} are classified as music."
    )
    return "\n".join([*lines, "", note])


def lite_degraded() -> str:
    """PQ of degraded versions of clips that were held out."""
    results = _results()
    found, unseen = results["degraded"], results["unseen scenes"]
    songs = found["songs"]
    lines = ["| degraded versions of | PQ falls with severity (SRCC) | below their recording, severity above .3 | n |"]
    lines += ["|---|--:|--:|--:|"]
    lines += [f"| {name} | {f['srcc']:.2f} | {f['below']:.0%} | {f['clips']} |" for name, f in found.items()]
    note = (
        f"Against the constructed label (the song's minus 5 points per severity) the error of PQ is {songs['mae']:.2f} "
        f"points, that of the median label {songs['mae_constant']:.2f}."
    )
    lines += ["", note, "", f"| scene left out of training, too: SRCC of the severity | {' | '.join(unseen)} |"]
    lines += [f"|---|{'--:|' * len(unseen)}"]
    for scene in next(iter(unseen.values())):
        lines.append(f"| {scene} | {' | '.join(f'{own[scene][0]:.2f}' for own in unseen.values())} |")
    return "\n".join(lines)


def lite_domains() -> str:
    """How often the detected domain of held-out clips is right."""
    lines = [
        "| detected domain is right | whole clips | excerpts of 0.8 to 2 s | degraded versions "
        "| whole clips of an unseen corpus |",
        "|---|--:|--:|--:|--:|",
    ]
    found = _results()
    for name, f in found["domains"].items():
        cells = [f"{f[form]:.0%}" if form in f else "" for form in ("whole", "excerpt", "degraded")]
        lines.append(f"| {name} | {' | '.join(cells)} | {found['domains of unseen corpora'][name]['whole']:.0%} |")
    return "\n".join(lines)


def _results() -> Any:
    return json.loads((RECIPES / "lite" / "results.json").read_text())


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (lite, lite_songs, lite_nested, lite_speech, lite_similar, lite_degraded, lite_domains, lite_checks)
}
