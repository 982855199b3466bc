"""Markdown tables of the latest benchmark results; scripts/docs.py puts them into README.md, docs/ and dev/.

Each function reads the JSON file in bench/results that the script of its name writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def bench() -> str:
    """Scoring, by bench/score.py."""
    data = _read("score")
    lines = ["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in data["figures"].items())]
    return "\n".join([*lines, "", _source("score", data, "")])


def bench_encoders() -> str:
    """Encoders against their reference implementations, by bench/encoders.py."""
    return "\n\n".join(map(_encoders, _read("encoders").values()))


def _encoders(data: dict[str, Any]) -> str:
    lines = [
        "| system | precision | s | ratio to reference | fraction of peak | memory, GiB | score change, mean / max |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in data["rows"]:
        change = f"{row['score_mean']:.4f} / {row['score_max']:.4f}" if "score_max" in row else ""
        figures = f"{row['seconds']:.2f} | {row['ratio_to_peer']:.2f} | {row['share_of_peak']:.0%}"
        memory = f"{row['held_gib']:.1f}, peak {row['peak_gib']:.1f}"
        lines.append(f"| {row['system']} | {row['dtype']} | {figures} | {memory} | {change} |")
    peak = ", ".join(f"{dtype} {max(kinds.values())}" for dtype, kinds in data["peak_gflops"].items())
    conditions = f"; threads: {data['threads']}, medians of {data['rounds']} rounds, peak in GFLOP/s: {peak}"
    return "\n".join([*lines, "", _source("encoders", data, conditions)])


def bench_heads() -> str:
    """Training the paper's sixteen configurations, by bench/heads.py."""
    data = _read("heads")
    lines = ["| precision | sixteen configurations, ten epochs each, hours | largest process, GiB |", "|---|--:|--:|"]
    lines += [f"| {row['precision']} | {row['hours']:.2f} | {row['process_peak_gib']:.1f} |" for row in data["rows"]]
    conditions = f"; {data['clips']} clips, {data['workers']} processes of one thread, from {data['epochs']} epoch"
    return "\n".join([*lines, "", _source("heads", data, conditions)])


def bench_bulk() -> str:
    """Bulk runs: throughput by the number of workers, and where the time goes, by bench/bulk.py."""
    data = _read("bulk")
    clips = f"; {data['clips']} files of {data['seconds']:g} s, lite, medians of {data['rounds']} rounds"
    load = f"; rates while all workers are busy; other programs used {data['load']:.1f} cores at the start"
    return "\n".join([*_throughput(data["figures"]), "", *_costs(data), "", _source("bulk", data, clips + load)])


def bench_serve() -> str:
    """The service: throughput and latency by the number of clients, by bench/serve.py."""
    data = _read("serve")
    lines = [
        "| clients | clips/s | fraction of plain scoring | median, s | 99th percentile, s |",
        "|--:|--:|--:|--:|--:|",
    ]
    for row in data["rows"]:
        latency = f"{row['p50']:.2f} | {row['p99']:.2f}"
        lines.append(f"| {row['clients']} | {row['rate']:.2f} | {row['of_plain']:.0%} | {latency} |")
    soak = data["soak"]
    first, last = soak["mebibytes"]
    lost = sum(row["lost"] for row in data["rows"]) + soak["lost"]
    counts = f"64 clients for {soak['seconds']:.0f} s: {soak['clips']} clips, {lost} lost in all measurements"
    memory = f"memory of all processes {first} MiB after a quarter of the time, {last} MiB at the end."
    conditions = f"; sample clips, lite, {data['rounds']} rounds next to plain scoring ({data['plain']:.2f} clips/s)"
    load = f"; load average {data['load']:.0f} with other programs, so compare within the table only"
    return "\n".join([*lines, "", f"{counts}; {memory}", "", _source("serve", data, conditions + load)])


def bench_reward() -> str:
    """Memory and time of a reward with its gradient, by bench/reward.py."""
    data = _read("reward")
    lines = ["| batch | `checkpoint` | memory, MiB | CPU time, s |", "|---|---|--:|--:|"]
    for row in data["rows"]:
        batch = f"{row['clips']} of {row['length']} s"
        default = row["checkpoint"] == (row["length"] > 10)
        name = f"`{row['checkpoint']}`" + ", the default" * default
        lines.append(f"| {batch} | {name} | {row['mebibytes']:,} | {row['seconds']:.1f} |")
    return "\n".join([*lines, "", _source("reward", data, "; lite, one thread, beyond the loaded model")])


def bench_startup() -> str:
    """The first score from a cold start, by bench/startup.py."""
    data = _read("startup")
    lines = ["| from a cold start | CPU time, s | wall time, s |", "|---|--:|--:|"]
    lines += [f"| {row['what']} | {row['cpu_s']:.2f} | {row['wall_s']:.2f} |" for row in data["rows"]]
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in data["stages"].items())
    load = f"; load average {data['load']:.0f}, medians of {data['rounds']} rounds; compare within the table"
    return "\n".join([*lines, "", f"CPU seconds by stage: {parts}.", "", _source("startup", data, load)])


def _throughput(figures: dict[str, Any]) -> list[str]:
    """Files per second of plain loops and of workers."""
    lines = ["| workers | files/s | fraction of as many plain loops | startup, s |", "|---|--:|--:|--:|"]
    loops = {1: figures["plain"]["rate"], 2: figures["plain_2"]["rate"]}
    for count, rate in loops.items():
        lines.append(f"| {count} plain loop{'s' * (count > 1)} over `Predictor.stream` | {rate:.1f} | | |")
    for name, words in (("local", ("process", "processes")), ("ray", ("Ray actor", "Ray actors"))):
        for count, rate in loops.items():
            row = figures[f"{name}_{count}"]
            cells = f"{row['rate']:.1f} | {row['rate'] / rate:.0%} | {row['start']:.1f}"
            lines.append(f"| {count} {words[count - 1]} | {cells} |")
    return lines


def _costs(data: dict[str, Any]) -> list[str]:
    """Time and memory of the steps of a bulk run."""
    figures = data["figures"]
    plain, shard, plan = figures["plain"], figures["shard"], figures["planning"]
    steps = {"decode": plain["decode"], "encode": plain["encode"], "heads": plain["heads"]}
    steps |= {"publish": (shard["list_s"] + shard["table_s"] + shard["publish_s"]) / data["shard_size"]}
    whole = sum(steps.values())
    memory = f"{(plan['peak'] - plan['before']) / 2**20:.0f} MiB, besides {plan['before'] / 2**20:.0f} MiB of Python"
    jobs = " and ".join(f"{figures[f'{kind}_jobs']['driver_s'] * 1000:.1f}" for kind in ("local", "ray"))
    lines = [
        "| what | measured |",
        "|---|---|",
        f"| time per file, by step | {', '.join(f'{name} {part / whole:.1%}' for name, part in steps.items())} |",
        f"| overhead per file, without decoding and scoring | {figures['local_nothing']['clip_s'] * 1e6:.0f} µs |",
        f"| round trip of a job to a worker, processes and Ray | {jobs} ms |",
        f"| peak memory of a worker | {figures['local_1']['peak'] / 2**20:.0f} MiB |",
        f"| planning a list of {plan['rows']:,} | {plan['seconds']:.1f} s, {memory} |",
        f"| resuming: checking that the list is the same | {plan['again_seconds']:.1f} s |",
    ]
    if peer := figures.get("peer"):
        rates = f"{peer['theirs']:.2f} and {peer['ours']:.2f} files/s, scores within {peer['apart']:.0e}"
        lines.append(f"| the baseline's package and MMMOS, same checkpoint | {rates} |")
    return lines


def bulk_scaled() -> str:
    """Estimates for very many clips, computed from those figures."""
    data = _read("bulk")
    far, assumed = data["scaled"], data["assumed"]
    costs = {
        "cores, scoring": far["compute_dollars"],
        "idle cores during planning, if they are already up": far["idle_plan_dollars"],
        "requests": far["request_dollars"],
        "one resume": far["resume_dollars"],
        "storage of list and parts, one month": far["month_dollars"],
    }
    head = f"{data['clips_scaled']:.0e} clips on {data['machines']:,} machines of {data['cores']} cores"
    lines = [f"| {head.replace('e+0', 'e')} | |", "|---|--:|"]
    lines += [f"| {name} | {value} |" for name, value in _scaled_rows(far).items()]
    lines += ["", "| cost | $ |", "|---|--:|", *(f"| {name} | {value:,.2f} |" for name, value in costs.items())]
    prices = (
        f"${assumed['core_hour']} per core hour, ${assumed['put'] * 1e6:g} per million write requests,"
        f" ${assumed['get'] * 1e6:g} per million read requests, ${assumed['month_of_gb']} per GB and month"
    )
    rest = (
        f"the store answers after {assumed['answer'] * 1000:.0f} ms, commits are read {assumed['readers']} at a time;"
        f" a worker needs {assumed['start']:.0f} s to load the model"
    )
    total = f"{far['core_hours']:,.0f} core hours with lite"
    if far["baseline_core_hours"]:
        total += f", {far['baseline_core_hours']:,.0f} with a model of the baseline's size"
    return "\n".join([*lines, "", f"Assumed, not measured: {prices}; {rest}. Total: {total}."])


def _scaled_rows(far: dict[str, float]) -> dict[str, str]:
    minutes, gb = (lambda s: f"{s / 60:.0f} min"), (lambda size: f"{size / 1e9:.1f} GB")
    return {
        "shards; files of the list": f"{far['shards']:,.0f}; {far['list_files']:,.0f}",
        "planning, one process; size of the stored list": f"{minutes(far['plan_seconds'])}; {gb(far['plan_bytes'])}",
        "footer of a file of the list, which each worker reads": f"{far['footer_bytes'] / 1e3:.0f} kB",
        "one part; all parts": f"{far['part_bytes'] / 1e3:.0f} kB; {gb(far['parts_bytes'])}",
        "memory of the driver at the end, without Ray": f"{far['driver_bytes'] / 2**20:.0f} MiB",
        "scoring on all workers, with the overhead of shards": minutes(far["work_seconds"]),
        "one shard on one worker, which is also the wait for the last ones": minutes(far["shard_seconds"]),
        "from the command to the last part": minutes(far["whole_seconds"]),
        "shards finished per second; jobs per second that the driver can hand out": f"{far['jobs_a_second']:.0f};"
        f" {far['driver_jobs_a_second']:.0f}",
        "read requests; write requests": f"{far['gets']:,.0f}; {far['puts']:,.0f}",
        "bytes read of the list, 1 MiB at a time": gb(far["read_bytes"]),
        "work lost with a machine": f"up to {far['lost_core_hours']:.2f} core hours",
        "resuming: the driver reads the commits": minutes(far["resume_seconds"]),
    }


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def ratings_curve() -> str:
    """Learning curves on two rated sets, by bench/ratings.py."""
    data = _read("ratings")
    cells = {(row["set"], row["axis"], row["clips"], row["method"]): row for row in data["rows"]}
    columns = list(dict.fromkeys((row["set"], row["axis"], row["clips"]) for row in data["rows"]))
    methods = list(dict.fromkeys(row["method"] for row in data["rows"]))
    lines = [f"| set, axis, clips | {' | '.join(methods)} |", "|---|" + "--:|" * len(methods)]
    for column in columns:
        row = [cells[(*column, method)] for method in methods]
        shown = (f"{item['MSE']:.4g}" + ("" if item["SRCC"] is None else f" ({item['SRCC']:.2f})") for item in row)
        lines.append(f"| {', '.join(map(str, column))} | {' | '.join(shown)} |")
    draws = f"; squared error (SRCC), means of {data['draws']} draws"
    return "\n".join([*lines, "", _source("ratings", data, draws)])


def _source(name: str, data: dict[str, Any], conditions: str) -> str:
    return f"`bench/{name}.py` at commit {data['commit']} on {data['machine']}{conditions}."


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (
        bench,
        bench_encoders,
        bench_heads,
        bench_bulk,
        bench_reward,
        bench_serve,
        bench_startup,
        bulk_scaled,
        ratings_curve,
    )
}
