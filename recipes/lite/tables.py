"""Markdown tables of how good `lite` is; scripts/docs.py puts them into README.md, docs/ and dev/.

Figures of music, sound and the gate are in recipes/lite/wide_results.json, which recipes/lite/wide_evaluate.py writes.
Checks on signals are in recipes/lite/check_results.json, which recipes/lite/checks.py writes. Figures of version 4 are
in recipes/lite/results.json, which recipes/lite/evaluate.py writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmmos.scores import AXES

RECIPES = Path(__file__).parent.parent

SUBSET_COLUMNS = {axis: axis for axis in ("CE", "CU", "PC", "PQ")} | {
    "signals": "codec signals",
    "families": "codec families",
    "transfer": "no codec ratings",
    "order": "order of degradations",
}


def lite() -> str:
    """The main figures of the model card: unseen songs and signals."""
    speech = _figures(lambda name: name.endswith(("unseen signals", "unseen codec families")))
    header, rule, *rows = speech.splitlines()
    songs = _wide()["songs"]
    music = [
        f"| music, unseen songs | {axis} | {f['srcc']:.2f} | {f['low']:.2f} to {f['high']:.2f} | {songs['clips']} |"
        for axis, f in ((axis, songs[axis]) for axis in AXES)
    ]
    return "\n".join([header, rule, *music, *rows])


def lite_songs() -> str:
    """Agreement with the raters of unseen songs."""
    songs = _wide()["songs"]
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


def lite_similar() -> str:
    """How often music has the basis `human`, and labels lie within two standard deviations."""
    found = _wide()
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
    rows |= {f"crossfade from {name}, a step of 40": values for name, values in found["crossfades"].items()}
    lines += [f"| {name} | {' | '.join(f'{values[axis]:.2f}' for axis in AXES)} |" for name, values in rows.items()]
    changes = {"music, hard clipping by 25 dB": found["clipping"]}
    changes |= {f"{name}, quantisation to 6 bits": values for name, values in found["quantisation"].items()}
    changes |= {f"music, low pass at {int(hz) // 1000} kHz": values for hz, values in found["low pass"].items()}
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
        f"Vocals separated from their mixture by worse and worse masks: mean SRCC of PQ within a song "
        f"{own['srcc']:.2f} ({own['series']} series); {own['music']:.0%} are classified as music."
    )
    return "\n".join([*lines, "", note])


def lite_degraded() -> str:
    """PQ of degraded versions of clips that were held out."""
    found = _wide()["degraded"]
    songs = found["songs"]
    lines = ["| degraded versions of | PQ falls with severity (SRCC) | below their recording, severity above .3 | n |"]
    lines += ["|---|--:|--:|--:|"]
    lines += [f"| {name} | {f['srcc']:.2f} | {f['below']:.0%} | {f['clips']} |" for name, f in found.items()]
    note = (
        f"Against the constructed label (the song's minus 5 points per severity) the error of PQ is {songs['mae']:.2f} "
        f"points, that of the median label {songs['mae_constant']:.2f}."
    )
    return "\n".join([*lines, "", note])


def lite_domains() -> str:
    """How often the detected domain of held-out clips is right."""
    lines = [
        "| detected domain is right | whole clips | excerpts of 0.8 to 2 s | degraded versions |",
        "|---|--:|--:|--:|",
    ]
    for name, f in _wide()["domains"].items():
        lines.append(f"| {name} | {f['whole']:.0%} | {f['excerpt']:.0%} | {f['degraded']:.0%} |")
    return "\n".join(lines)


def lite_all() -> str:
    """All correlations with raters."""
    return _figures(lambda name: True)


def _figures(selects: Callable[[str], bool]) -> str:
    lines = ["| test clips, never used in training | axis | SRCC | 95 % interval | n |", "|---|---|---|---|---|"]
    for item in _results()["figures"]:
        if selects(item["figure"]):
            interval = f"{item['low']:.2f} to {item['high']:.2f}"
            lines.append(f"| {item['figure']} | {item['axis']} | {item['srcc']:.2f} | {interval} | {item['n']} |")
    return "\n".join(lines)


def lite_order() -> str:
    """Orders that are known without raters: degradations, numbers of sources, separated vocals."""
    data = _results()
    domains = [key for key in data["order"]["lite"] if "," not in key]
    parts = (
        _degradation_order(data["order"], domains),
        ["The last five rows are lite's worst. When a family of degradations is left out of training:"],
        _unseen_degradations(data["unseen_damage"], domains),
        ["| more simultaneous sources have the higher PC | lite | pairs |", "|---|--:|--:|"]
        + [f"| {key} | {fraction:.0%} | {pairs} |" for key, (fraction, pairs) in data["counts"].items()],
        ["| vocals separated from unseen songs by worse and worse masks | SRCC within a song | 95 % interval |"]
        + ["|---|--:|---|"]
        + [
            f"| {name} | {f['srcc']:.2f} | {f['low']:.2f} to {f['high']:.2f} |" for name, f in data["separated"].items()
        ],
    )
    return "\n\n".join("\n".join(part) for part in parts)


def _degradation_order(order: dict[str, Any], domains: list[str]) -> list[str]:
    """By domain, for band limits, and for the five degradations that lite orders worst."""
    own = order["lite"]
    others = [name for name in order if name != "lite"]
    limits = [key for key in own if "limited" in key]
    worst = sorted((key for key in own if "," in key and key not in limits), key=lambda key: own[key][0])[:5]
    lines = [
        f"| the less degraded of two versions has the higher PQ | lite | {' alone | '.join(others)} alone | pairs |",
        f"|---|--:|{'--:|' * len(others)}--:|",
    ]
    for key in [*domains, *limits, *worst]:
        cells = " | ".join(f"{order[name][key][0]:.0%}" for name in others)
        lines.append(f"| {key} | {own[key][0]:.0%} | {cells} | {own[key][1]} |")
    return lines


def _unseen_degradations(families: dict[str, Any], domains: list[str]) -> list[str]:
    lines = [f"| family left out of training | {' | '.join(domains)} |", f"|---|{'--:|' * len(domains)}"]
    for family, found in families.items():
        lines.append(f"| {family} | {' | '.join(f'{found[domain][0]:.0%}' for domain in domains)} |")
    return lines


def lite_gate() -> str:
    """The domain that the gate finds, for each kind of clip."""
    lines = ["| clips | classified as speech | as music | as sound |", "|---|--:|--:|--:|"]
    for kind, found in _results()["domains"].items():
        lines.append(f"| {kind} | {' | '.join(f'{found[name]:.0%}' for name in ('speech', 'music', 'sound'))} |")
    return "\n".join(lines)


def lite_errors() -> str:
    """Mean absolute errors on unseen songs."""
    axes = ("PQ", "PC", "CE", "CU")
    lines = [f"| mean absolute error on unseen songs, points | {' | '.join(axes)} |", f"|---|{'--:|' * len(axes)}"]
    for name, found in _results()["mean_absolute_error"].items():
        lines.append(f"| {name} | {' | '.join(f'{found[axis]:.2f}' for axis in axes)} |")
    return "\n".join(lines)


def lite_subsets() -> str:
    """The main figures for every subset of the encoders, like Table II of the paper."""
    rows = {", ".join(row["encoders"]): row for row in _results()["subsets"]}
    return "\n".join(_subset_table("encoders", rows))


def third_encoder() -> str:
    """The same figures with a pretrained encoder next to lite's own."""
    data = json.loads((RECIPES / "paper" / "results" / "third_encoder.json").read_text())
    rows = {name: data[name] for name in ("lite", "lite and the pretrained encoder")}
    note = f"Degraded pairs of unseen packages in the right order, by that encoder alone: {data['own_order']:.0%}."
    return "\n".join([*_subset_table("", rows), "", note])


def _subset_table(title: str, rows: dict[str, Any]) -> list[str]:
    lines = [f"| {title} | {' | '.join(SUBSET_COLUMNS.values())} |", f"|---|{'--:|' * len(SUBSET_COLUMNS)}"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{row[key]:.2f}' for key in SUBSET_COLUMNS)} |")
    return lines


def _wide() -> Any:
    return json.loads((RECIPES / "lite" / "wide_results.json").read_text())


def _results() -> Any:
    return json.loads((RECIPES / "lite" / "results.json").read_text())


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (
        *(lite, lite_songs, lite_similar, lite_degraded, lite_domains, lite_checks),
        *(lite_all, lite_order, lite_gate, lite_errors, lite_subsets, third_encoder),
    )
}
