"""Write the generated parts of README.md and docs/ anew, or with --check say which of them are stale.

A part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "mmmos"
DOCUMENTS = (
    "README.md",
    *(f"docs/{name}.md" for name in ("ARCHITECTURE", "COMMANDS", "DATA", "EXPERIMENTING")),
    "dev/LOG.md",
    *(f"docs/{name}.md" for name in ("MODEL_CARD", "ROWS", "SETTINGS", "BULK")),
)
SCORE_TOLERANCE = 0.02
"""Points by which a score may differ from the one printed: processors round differently."""


def samples() -> str:
    """The sample clips' scores as a terminal shows them."""
    from rich.console import Console

    from mmmos.cli.score_table import score_table
    from mmmos.data.inputs import expand
    from mmmos.inference.predictor import from_pretrained

    out = io.StringIO()
    console = Console(file=out, width=100, highlight=False, markup=False, emoji=False)
    os.chdir(ROOT)
    clips = list(expand(["samples"]))
    wrong = []
    with from_pretrained("lite", device="cpu") as predictor:
        label_range = predictor.model.info.label_range
        with score_table(console, [clip.id for clip in clips], label_range) as write:
            for scores in predictor.stream(clips):
                write(scores)
                own = Path(scores.id).name.split("_")[0]  # a sample's name begins with its domain
                if scores.domain != own:
                    wrong.append(f"`{scores.id}` is {own}; lite takes it for {scores.domain}, so its scores are wrong.")
    return "\n\n".join([_fenced("\n".join(map(str.rstrip, out.getvalue().splitlines()))), *wrong])


def lite() -> str:
    """The first figures of the card: unseen songs and signals."""
    return _figures(lambda name: name.endswith(("unseen songs", "unseen signals", "unseen codec families")))


def lite_all() -> str:
    """All of them."""
    return _figures(lambda name: True)


def lite_order() -> str:
    """The order of damage, known and unknown, of vocals out of their mixtures and of how many sources sound."""
    data = _lite()
    own = data["order"]["lite"]
    others = [name for name in data["order"] if name != "lite"]
    lines = [
        f"| the less damaged of two versions has the higher PQ | lite | {' alone | '.join(others)} alone | pairs |",
        f"|---|--:|{'--:|' * len(others)}--:|",
    ]
    domains = [key for key in own if "," not in key]
    kinds = sorted((key for key in own if "," in key and "limited" not in key), key=lambda key: own[key][0])
    for key in [*domains, *(key for key in own if "limited" in key), *kinds[:5]]:
        beside = " | ".join(f"{data['order'][name][key][0]:.0%}" for name in others)
        lines.append(f"| {key} | {own[key][0]:.0%} | {beside} | {own[key][1]} |")
    lines += ["", "The last five rows are lite's worst. Where training knew no damage of that family:", ""]
    lines += [f"| damage left out of training | {' | '.join(domains)} |", f"|---|{'--:|' * len(domains)}"]
    for family, told in data["unseen_damage"].items():
        lines.append(f"| {family} | {' | '.join(f'{told[domain][0]:.0%}' for domain in domains)} |")
    lines += ["", "| more sources at once have the higher PC | lite | pairs |", "|---|--:|--:|"]
    lines += [f"| {key} | {share:.0%} | {pairs} |" for key, (share, pairs) in data["counts"].items()]
    lines += [
        "",
        "| vocals taken out of unseen songs by worse and worse masks | SRCC within a song | 95 % |",
        "|---|--:|---|",
    ]
    for name, found in data["separated"].items():
        lines.append(f"| {name} | {found['srcc']:.2f} | {found['low']:.2f} to {found['high']:.2f} |")
    return "\n".join(lines)


def lite_gate() -> str:
    """What each kind of clip is told to be."""
    lines = ["| told to be | speech | music | sound |", "|---|--:|--:|--:|"]
    for kind, told in _lite()["domains"].items():
        lines.append(f"| {kind} | {' | '.join(f'{told[name]:.0%}' for name in ('speech', 'music', 'sound'))} |")
    return "\n".join(lines)


def lite_errors() -> str:
    """Mean absolute errors on unseen songs."""
    told = _lite()["mean_absolute_error"]
    axes = ("PQ", "PC", "CE", "CU")
    lines = [f"| mean absolute error on unseen songs, points | {' | '.join(axes)} |", f"|---|{'--:|' * len(axes)}"]
    lines += [f"| {name} | {' | '.join(f'{found[axis]:.2f}' for axis in axes)} |" for name, found in told.items()]
    return "\n".join(lines)


def lite_subsets() -> str:
    """The main figures for every subset of the encoders, as Table II of the paper has them."""
    lines = [f"| encoders | {' | '.join(_SUBSET_HEAD.values())} |", f"|---|{'--:|' * len(_SUBSET_HEAD)}"]
    for row in _lite()["subsets"]:
        lines.append(f"| {', '.join(row['encoders'])} | {' | '.join(f'{row[key]:.2f}' for key in _SUBSET_HEAD)} |")
    return "\n".join(lines)


def third_encoder() -> str:
    """What a pretrained encoder beside lite's own changes."""
    data = json.loads((ROOT / "recipes" / "paper" / "results" / "third_encoder.json").read_text())
    lines = [f"| | {' | '.join(_SUBSET_HEAD.values())} |", f"|---|{'--:|' * len(_SUBSET_HEAD)}"]
    for name in ("lite", "lite and the pretrained encoder"):
        lines.append(f"| {name} | {' | '.join(f'{data[name][key]:.2f}' for key in _SUBSET_HEAD)} |")
    return "\n".join(
        [*lines, "", f"Its own order of damage, on packages that it never heard: {data['own_order']:.0%}."]
    )


_SUBSET_HEAD = {axis: axis for axis in ("CE", "CU", "PC", "PQ")} | {
    "signals": "codec signals",
    "families": "codec families",
    "transfer": "no codec ratings",
    "order": "order of damage",
}


def _lite() -> Any:
    return json.loads((ROOT / "recipes" / "lite" / "results.json").read_text())


def _figures(chosen: Callable[[str], bool]) -> str:
    data = _lite()
    lines = ["| clips that training never saw | axis | SRCC | 95 % | n |", "|---|---|---|---|---|"]
    for item in data["figures"]:
        if chosen(item["figure"]):
            interval = f"{item['low']:.2f} to {item['high']:.2f}"
            lines.append(f"| {item['figure']} | {item['axis']} | {item['srcc']:.2f} | {interval} | {item['n']} |")
    return "\n".join(lines)


def bench() -> str:
    """What bench/score.py measured last."""
    data = json.loads((ROOT / "bench" / "results" / "score.json").read_text())
    lines = ["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in data["figures"].items())]
    return "\n".join([*lines, "", f"`bench/score.py` at commit {data['commit']} on {data['machine']}."])


def bench_encoders() -> str:
    """What bench/encoders.py measured last."""
    data = json.loads((ROOT / "bench" / "results" / "encoders.json").read_text())
    lines = [
        "| system | precision | s | ratio to the peer | share of peak | memory, GiB | change of scores, mean / max |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in data["rows"]:
        change = f"{row['score_mean']:.4f} / {row['score_max']:.4f}" if "score_max" in row else ""
        figures = f"{row['seconds']:.2f} | {row['ratio_to_peer']:.2f} | {row['share_of_peak']:.0%}"
        memory = f"{row['held_gib']:.1f}, peak {row['peak_gib']:.1f}"
        lines.append(f"| {row['system']} | {row['dtype']} | {figures} | {memory} | {change} |")
    peak = ", ".join(f"{dtype} {max(kinds.values())}" for dtype, kinds in data["peak_gflops"].items())
    how = f"threads: {data['threads']}, medians of {data['rounds']} rounds, peak in GFLOP/s: {peak}"
    lines += ["", f"`bench/encoders.py` at commit {data['commit']} on {data['machine']}; {how}."]
    return "\n".join(lines)


def help_texts() -> str:
    """`--help` of every command, those of a group after it."""
    from mmmos.cli import app

    names = ["", *(command.callback.__name__ for command in app.registered_commands if command.callback)]
    for group in app.registered_groups:
        commands = group.typer_instance.registered_commands if group.typer_instance else []
        names += [str(group.name), *(f"{group.name} {item.callback.__name__}" for item in commands if item.callback)]
    return "\n\n".join(_fenced(_help(name)) for name in names)


def _help(command: str) -> str:
    words = [sys.executable, "-m", "mmmos", *command.split(), "--help"]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    text = subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout
    return "\n".join(line.rstrip() for line in text.strip().replace("python -m mmmos", "mmmos").splitlines())


def modules() -> str:
    """Every module with the first sentence of its docstring, in the order of the layers."""
    sys.path.insert(0, str(ROOT))
    from tests.test_layers import MODULES, ROWS

    lines = ["| row | package | what it is | its modules |", "|--:|---|---|---|"]
    for number, names in enumerate(ROWS, 1):
        for name in names:
            path = MODULES[name]
            summary = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")
            inside = ", ".join(f"`{other.split('.')[1]}`" for other in MODULES if other.startswith(f"{name}."))
            lines.append(
                f"| {number} | `{path.relative_to(PACKAGE)}` | {summary} | {inside} |".replace("/__init__.py", "/")
            )
    return "\n".join(lines)


def warnings() -> str:
    """The table in the docstring of `mmmos.audio.warnings`."""
    docstring = ast.get_docstring(ast.parse((PACKAGE / "audio" / "warnings.py").read_text())) or ""
    return docstring[docstring.index("| warning") :].strip()


def bench_heads() -> str:
    """What bench/heads.py measured last."""
    data = json.loads((ROOT / "bench" / "results" / "heads.json").read_text())
    lines = ["| precision | sixteen configurations, ten epochs each, hours | largest process, GiB |", "|---|--:|--:|"]
    lines += [f"| {row['precision']} | {row['hours']:.2f} | {row['process_peak_gib']:.1f} |" for row in data["rows"]]
    how = f"{data['clips']} clips, {data['workers']} processes of one thread, from {data['epochs']} epoch"
    return "\n".join([*lines, "", f"`bench/heads.py` at commit {data['commit']} on {data['machine']}; {how}."])


def bench_bulk() -> str:
    """What bench/bulk.py measured last."""
    data = json.loads((ROOT / "bench" / "results" / "bulk.json").read_text())
    found = data["figures"]
    plain, shard, plan = found["plain"], found["shard"], found["planning"]
    lines = ["| workers | files/s | of as many plain loops | s until the first works |", "|---|--:|--:|--:|"]
    loops = {1: plain["rate"], 2: found["plain_2"]["rate"]}
    for count, rate in loops.items():
        lines.append(f"| {count} plain loop{'s' * (count > 1)} over `Predictor.stream` | {rate:.1f} | | |")
    for name, words in (("local", ("process", "processes")), ("ray", ("Ray actor", "Ray actors"))):
        for count, rate in loops.items():
            row = found[f"{name}_{count}"]
            cells = f"{row['rate']:.1f} | {row['rate'] / rate:.0%} | {row['start']:.1f}"
            lines.append(f"| {count} {words[count - 1]} | {cells} |")
    parts = {"decode": plain["decode"], "encode": plain["encode"], "heads": plain["heads"]}
    parts |= {"publish": (shard["list_s"] + shard["table_s"] + shard["publish_s"]) / data["shard_size"]}
    whole = sum(parts.values())
    peer, nothing = found.get("peer"), found["local_nothing"]
    memory = f"{(plan['peak'] - plan['before']) / 2**20:.0f} MiB beside the {plan['before'] / 2**20:.0f} of Python"
    jobs = " and ".join(f"{found[f'{kind}_jobs']['driver_s'] * 1000:.1f}" for kind in ("local", "ray"))
    lines += [
        "",
        "| what | measured |",
        "|---|---|",
        f"| shares of a file's time | {', '.join(f'{name} {part / whole:.1%}' for name, part in parts.items())} |",
        f"| all that is not decoding and scoring, a file | {nothing['clip_s'] * 1e6:.0f} µs |",
        f"| a job's way to a worker and back, processes and Ray | {jobs} ms |",
        f"| most memory of a worker | {found['local_1']['peak'] / 2**20:.0f} MiB |",
        f"| planning a list of {plan['rows']:,} | {plan['seconds']:.1f} s, {memory} |",
        f"| finding that it is planned | {plan['again_seconds']:.1f} s |",
    ]
    if peer:
        lines.append(
            f"| the baseline's package and ours, same checkpoint | {peer['theirs']:.2f} and"
            f" {peer['ours']:.2f} files/s, scores within {peer['apart']:.0e} |"
        )
    what = f"{data['clips']} files of {data['seconds']:g} s, lite, medians of {data['rounds']} rounds"
    how = f"{what}; rates while all are at work; others kept {data['load']:.1f} cores of the machine busy as it began"
    return "\n".join([*lines, "", f"`bench/bulk.py` at commit {data['commit']} on {data['machine']}; {how}."])


def bulk_scaled() -> str:
    """What follows from it for very many clips."""
    data = json.loads((ROOT / "bench" / "results" / "bulk.json").read_text())
    far, assumed = data["scaled"], data["assumed"]
    minutes, gb = (lambda s: f"{s / 60:.0f} min"), (lambda size: f"{size / 1e9:.1f} GB")
    gets, puts = (f"{far[kind]:,.0f}" for kind in ("gets", "puts"))
    rows = {
        "shards, and files of the list": f"{far['shards']:,.0f}; {far['list_files']:,.0f}",
        "planning, one process; the list as it is kept": f"{minutes(far['plan_seconds'])}; {gb(far['plan_bytes'])}",
        "a file of the list ends with its footer, which each worker reads": f"{far['footer_bytes'] / 1e3:.0f} kB",
        "a part; all parts": f"{far['part_bytes'] / 1e3:.0f} kB; {gb(far['parts_bytes'])}",
        "memory of the driver once all is done, without Ray": f"{far['driver_bytes'] / 2**20:.0f} MiB",
        "scoring on all workers, with what a shard costs beside": minutes(far["work_seconds"]),
        "a shard on one worker, and so the wait for the last ones": minutes(far["shard_seconds"]),
        "from the command to the last part": minutes(far["whole_seconds"]),
        "shards that end, a second; jobs that the driver was seen to hand out": f"{far['jobs_a_second']:.0f};"
        f" {far['driver_jobs_a_second']:.0f}",
        "requests that read; that write": f"{gets}; {puts}",
        "bytes read of the list, 1 MiB at a time": gb(far["read_bytes"]),
        "lost with a machine": f"up to {far['lost_core_hours']:.2f} core hours",
        "going on: a driver reads the commits": minutes(far["resume_seconds"]),
    }
    costs = {
        "cores, scoring": far["compute_dollars"],
        "cores that wait for the plan, if they are there by then": far["idle_plan_dollars"],
        "requests": far["request_dollars"],
        "going on once": far["resume_dollars"],
        "a month of list and parts": far["month_dollars"],
    }
    head = f"{data['clips_scaled']:.0e} clips on {data['machines']:,} machines of {data['cores']} cores"
    lines = [
        f"| {head.replace('e+0', 'e')} | |",
        "|---|--:|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
    ]
    lines += ["", "| cost | $ |", "|---|--:|", *(f"| {name} | {value:,.2f} |" for name, value in costs.items())]
    prices = (
        f"${assumed['core_hour']} a core hour, ${assumed['put'] * 1e6:g} a million writing requests and"
        f" ${assumed['get'] * 1e6:g} a million reading ones, ${assumed['month_of_gb']} a GB and month"
    )
    rest = (
        f"an answer of the store after {assumed['answer'] * 1000:.0f} ms, {assumed['readers']} at a time as commits are"
        f" read; {assumed['start']:.0f} s until a worker has the model"
    )
    scored = f"{far['core_hours']:,.0f} core hours with lite"
    if far["baseline_core_hours"]:
        scored += f", {far['baseline_core_hours']:,.0f} with a model of the baseline's size"
    return "\n".join([*lines, "", f"Assumed, not measured: {prices}; {rest}. In all {scored}."])


def experiment(name: str, tables: tuple[str, ...]) -> str:
    """SRCC by clip of an experiment's rows, as `recipes/paper/log.py` kept them."""
    data = json.loads((ROOT / "recipes" / "paper" / "results" / f"{name}.json").read_text())
    rows = [row for row in data["rows"] if row["table"] in tables]
    sets = list(rows[0]["sets"])
    lines = ["| | " + " | ".join(f"{kind}, composite | mean of axes" for kind in sets) + " |"]
    lines.append("|---|" + "--:|--:|" * len(sets))
    for row in rows:
        cells = []
        for kind in sets:
            for axis in ("composite", "mean_of_axes"):
                found = row["sets"][kind][axis]
                cells.append(f"{found['srcc']:.2f} ± {found['std']:.2f}")
        lines.append(f"| {row['row']} | {' | '.join(cells)} |")
    return "\n".join(
        [*lines, "", f"`experiments/{name}.toml` at commit {data['commit']}; SRCC over clips, three seeds."]
    )


def bases() -> str:
    """What a score may rest on."""
    from mmmos.scores import BASES

    rows = (f"| `{word}` | {meaning} |" for word, meaning in BASES.items())
    return "\n".join(["| basis | the score rests on |", "|---|---|", *rows])


def errors() -> str:
    """The error codes and what they mean."""
    from mmmos.errors import AUDIO_ERROR_CODES

    rows = (f"| `{code}` | {meaning} |" for code, meaning in AUDIO_ERROR_CODES.items())
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def corpora() -> str:
    """The corpora, how many clips the lists have of each, and where they come from."""
    from mmmos.data.corpora import SOURCES

    lines = ["| folder | corpus | training | development | test | terms |", "|---|---|--:|--:|--:|---|"]
    for folder, info in SOURCES.items():
        counts = f"{info.train or ''} | {info.dev or ''} | {info.test or ''}"
        lines.append(f"| `{folder}` | [{info.title}]({info.home}) | {counts} | {info.terms} |")
    return "\n".join(lines)


def label_files() -> str:
    """The label files and their public homes."""
    from mmmos.data.label_files import LABEL_FILES

    lines = ["| name | file | clips |", "|---|---|--:|"]
    lines += [f"| `{name}` | [{item.file_name}]({item.url}) | {item.rows} |" for name, item in LABEL_FILES.items()]
    return "\n".join(lines)


def settings() -> str:
    """Every setting, by the headings and with the comments that stand in the source of `Settings`."""
    from mmmos.training.settings import LOSS_OPTIONS, PRESETS

    others = [name for name in PRESETS if name != "paper"]
    lines = [f"| setting | values | paper | {' | '.join(others)} | |", f"|---|---|---|{'---|' * len(others)}---|"]
    for name, comment in _settings_source():
        if not name:
            lines.append(f"| **{comment}** | | | {'| ' * len(others)}|")
            continue
        losses = [loss for loss, options in LOSS_OPTIONS.items() if name in options]
        info = "; ".join(filter(None, [comment, f"of {' and '.join(losses)}" if losses else ""]))
        paper, *rest = [_plain(getattr(PRESETS[preset], name)) for preset in ("paper", *others)]
        cells = [paper, *("" if value == paper else value for value in rest)]
        lines.append(f"| `{name}` | {_values(name)} | {' | '.join(cells)} | {info} |")
    return "\n".join(lines)


def _settings_source() -> list[tuple[str, str]]:
    """Name and comment of each field of `Settings`, in order; headings have no name."""
    source = (PACKAGE / "training" / "settings.py").read_text()
    body = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "Settings").body
    names = {n.lineno: n.target.id for n in body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    lines = sorted({*names, *(line for line in comments if body[0].lineno < line < max(names))})
    return [(names.get(line, ""), comments.get(line, "")) for line in lines]


def _values(name: str) -> str:
    """What a setting may be, in words."""
    from mmmos.training.settings import Settings

    words = {int: "whole number", float: "number", bool: "true, false", type(None): "none"}
    kind = get_type_hints(Settings)[name]
    return ", ".join(words[part] if isinstance(part, type) else f"{part}" for part in get_args(kind) or (kind,))


def _plain(value: object) -> str:
    """A value as a TOML file has it, words without quotes."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else f"{value}"


def experiment_toml() -> str:
    """An experiment, as it is."""
    return f"```toml\n{(PACKAGE / 'bundled' / 'experiments' / 'musdb18.toml').read_text().rstrip()}\n```"


def _fenced(text: str) -> str:
    return f"```\n{text.rstrip()}\n```"


PARTS: dict[str, Callable[[], str]] = {
    "samples": samples,
    "lite": lite,
    "lite_all": lite_all,
    "lite_order": lite_order,
    "lite_gate": lite_gate,
    "lite_errors": lite_errors,
    "lite_subsets": lite_subsets,
    "third_encoder": third_encoder,
    "bench": bench,
    "bench_encoders": bench_encoders,
    "corpora": corpora,
    "experiment_toml": experiment_toml,
    "help": help_texts,
    "label_files": label_files,
    "modules": modules,
    "settings": settings,
    "warnings": warnings,
    "bases": bases,
    "bench_heads": bench_heads,
    "bench_bulk": bench_bulk,
    "bulk_scaled": bulk_scaled,
    "experiment_musdb18": lambda: experiment("musdb18", ("II", "III", "IV")),
    "experiment_random": lambda: experiment("random", ("II", "III", "IV")),
    "experiment_presets": lambda: experiment("presets", ("Presets",)),
    "experiment_best_but": lambda: experiment("presets", ("Best but",)),
    "errors": errors,
}


def rewritten(text: str) -> str:
    """A document with its parts made anew."""

    def part(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- begin {name} -->\n{PARTS[name]()}\n<!-- end {name} -->"

    return re.sub(r"<!-- begin (\w+) -->\n.*?<!-- end \1 -->", part, text, flags=re.DOTALL)


def same(old: str, new: str) -> bool:
    """Equal but for scores within the tolerance."""
    number = r"-?\d+\.\d\d\b"
    if re.sub(number, "#", old) != re.sub(number, "#", new):
        return False
    pairs = zip(re.findall(number, old), re.findall(number, new), strict=True)
    return all(abs(float(a) - float(b)) <= SCORE_TOLERANCE for a, b in pairs)


def main(words: list[str] | None = None) -> int:
    """Write or check every document; 1 if one is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a part is stale")
    options = parser.parse_args(words)
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        old, new = path.read_text(), rewritten(path.read_text())
        if not same(old, new):
            stale.append(name)
        if not options.check and old != new:
            path.write_text(new)
    if options.check and stale:
        print(f"stale, run `make docs`: {', '.join(stale)}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
