"""Experiment files are read as configurations and clips, or refused with an error that names the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mmmos.encoders.table import ENCODERS
from mmmos.ensemble import STRATEGIES
from mmmos.errors import ManifestError, UsageError
from mmmos.experiments import config
from mmmos.experiments.config import Experiment, bundled_experiments, find_experiment, read_experiment
from mmmos.experiments.row_names import LABELS
from mmmos.experiments.sets import Sets, read_sets
from mmmos.paper import CONFIGURATIONS, ENCODER_SUBSETS, ROWS
from mmmos.training.settings import PRESETS

FILES = list(bundled_experiments().values())

PLAIN = """
[encoders]
a = "spectrum"
b = "musicnn"

[data]
list = "r.csv"
parts = { train = 0.8, Dev = 0.2 }
"""

GRID = """
[[grid]]
table = "Mine"
row = "{encoders}"
encoders = ["a"]
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Experiment]:
    def call(text: str, **changes: object) -> Experiment:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return read_experiment(path, changes)

    return call


def rows(experiment: Experiment, table: str) -> list[str]:
    return [row.row for row in experiment.grid if row.table == table]


def test_paper_has_7_subsets_16_configurations_6_ensembles() -> None:
    paper = read_experiment(FILES[0].with_name("paper.toml"))
    assert sorted(rows(paper, "II")) == sorted(ENCODER_SUBSETS)
    assert sorted(rows(paper, "III")) == sorted(CONFIGURATIONS)
    assert len(paper.grid) == 23
    assert len({(row.encoders, row.settings) for row in paper.grid}) == 21  # two stand in both tables
    assert paper.seeds == (42, 43, 44)
    assert paper.ensembles is not None
    assert paper.ensembles.strategies == ROWS["IV"]
    assert paper.compare_to_paper
    for row in paper.grid:
        common = {"aggregator": "mlp", "loss": "ut", "precision": "float32"}
        assert row.settings.replace(common) == PRESETS["paper"]
        if row.table == "II":
            assert (row.settings.aggregator, row.settings.loss) == ("mlp", "ut")
        else:
            assert row.encoders == (("wavlm", "m2d") if row.row.startswith("BiEnc") else ("wavlm", "muq", "m2d"))
            assert row.row.split()[1:] == [LABELS[row.settings.aggregator], LABELS[row.settings.loss]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_experiments_that_come_with_mmmos_are_experiments(path: Path) -> None:
    experiment = read_experiment(path)
    assert experiment.grid
    assert experiment.note
    assert {source.partition("=")[0] for source in experiment.encoders.values()} <= set(ENCODERS)


def test_find_experiment_takes_a_path_or_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_experiment("paper").name == "paper.toml"
    assert list(bundled_experiments()) == ["musdb18", "paper", "presets", "random"]
    Path("paper").write_text(PLAIN + GRID)
    assert find_experiment("paper") == Path("paper")
    with pytest.raises(UsageError, match=r"papers: not a file.*; those are musdb18, paper, presets, random$"):
        find_experiment("papers")


OWN = """
[encoders]
wavlm = "{wavlm}"
muq = "muq"
m2d = "{m2d}"

[data]
list = "r.csv"
parts = {{ train = 0.8, Dev = 0.2 }}

[[grid]]
table = "III"
row = "{{network}} {{aggregator}} {{loss}}"
encoders = [["wavlm", "m2d"], ["wavlm", "muq", "m2d"]]
loss = "ut"
aggregator = "mlp"
"""


@pytest.mark.parametrize(
    ("wavlm", "m2d", "papers", "names"),
    [
        ("wavlm", "m2d", True, ("BiEnc", "TriEnc")),
        ("wavlm", "m2d=x/m2d_clap_vit_base-80x1001p16x16-240128_AS-FT_enconly/w.pth", True, ("BiEnc", "TriEnc")),
        ("distillmos", "m2d", False, ("DistillMOS+M2D", "DistillMOS+MuQ+M2D")),
        ("wavlm=random.bin", "m2d", False, ("own WavLM+M2D", "own WavLM+MuQ+M2D")),
        ("wavlm", "m2d=m2d_random_vit-80x1001p16x16/w.pth", False, ("WavLM+own M2D", "WavLM+MuQ+own M2D")),
    ],
)
def test_rows_name_the_encoders_that_are_there(
    read: Callable[..., Experiment], wavlm: str, m2d: str, papers: bool, names: tuple[str, str]
) -> None:
    experiment = read(OWN.format(wavlm=wavlm, m2d=m2d))
    assert experiment.has_paper_encoders == papers
    assert rows(experiment, "III") == [f"{name} MLP UT" for name in names]
    assert [row.paper_row for row in experiment.grid] == ["BiEnc MLP UT", "TriEnc MLP UT"]


@pytest.mark.slow
def test_papers_numbers_are_shown_for_its_encoders_only() -> None:
    found = {name: read_experiment(path) for name, path in bundled_experiments().items()}
    assert {name for name, experiment in found.items() if experiment.has_paper_encoders} == {"paper"}
    assert {row.paper_row for row in found["musdb18"].grid if row.table == "III"} == set(CONFIGURATIONS)
    assert "DistillMOS+Spectrum MLP UT" in rows(found["musdb18"], "III")


def test_what_is_given_as_a_list_is_tried_one_by_one(read: Callable[..., Experiment]) -> None:
    grid = """
    [[grid]]
    table = "Mine"
    row = "{encoders}, {loss} at {lr}, {pad_mask}"
    encoders = [["a"], ["a", "b"]]
    loss = ["ccc", "ut"]
    lr = [1e-4, 0.01]
    epochs = 3
    pad_mask = false

    [[grid]]
    table = "Mine"
    row = "all of them"
    """
    experiment = read(PLAIN + grid)
    assert rows(experiment, "Mine") == [
        f"{encoders}, {loss} at {lr}, false"
        for encoders in ("a", "a+b")
        for loss in ("CCC", "UT")
        for lr in ("0.0001", "0.01")
    ] + ["all of them"]
    last = experiment.grid[7]
    assert last.encoders == ("a", "b")
    assert last.settings == PRESETS["paper"].replace({"loss": "ut", "lr": 0.01, "epochs": 3, "pad_mask": False})
    assert experiment.grid[8].encoders == ("a", "b")
    assert experiment.seeds == (42,)
    assert experiment.ensembles is None  # they are made of Table III


def test_settings_precedence_preset_file_grid_command_line(
    read: Callable[..., Experiment],
) -> None:
    text = 'preset = "small"\n' + PLAIN + GRID + "lr = 0.5\ndropout = 0.5\n[settings]\nlr = 0.25\nepochs = 7\n"
    (row,) = read(text, dropout=0.125).grid
    assert row.settings == PRESETS["small"].replace({"epochs": 7, "lr": 0.5, "dropout": 0.125})


@pytest.mark.parametrize(("fast", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_precision_is_what_the_processor_is_fast_in(
    fast: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "has_fast_bfloat16", lambda: fast)
    for name in ("paper", "musdb18", "presets", "random"):
        chosen = {
            (row.settings.aggregator, row.settings.precision) for row in read_experiment(find_experiment(name)).grid
        }
        assert chosen == {("mlp", "float32"), ("blstm_h", "float32"), ("blstm_t", expected)}
    for given in ("float32", "bfloat16"):
        grid = read_experiment(find_experiment("paper"), {"precision": given}).grid
        assert {row.settings.precision for row in grid} == {given}


def test_presets_can_be_tried_one_by_one(read: Callable[..., Experiment]) -> None:
    text = PLAIN + GRID.replace("{encoders}", "{preset} {pool}") + 'preset = ["paper", "small"]\npool = ["mean"]\n'
    first, second = read(text + "[settings]\nlr = 0.5\n").grid
    assert (first.row, second.row) == ("paper mean", "small mean")
    assert first.settings == PRESETS["paper"].replace({"lr": 0.5})
    assert second.settings == PRESETS["small"].replace({"lr": 0.5, "pool": "mean"})


def test_a_file_can_say_none(read: Callable[..., Experiment]) -> None:
    (row,) = read(PLAIN + GRID + 'early_stop_patience = "none"\nembed_norm = "none"\n').grid
    assert row.settings.early_stop_patience is None
    assert row.settings.embed_norm == "none"


def test_a_base_is_changed_by_what_follows_it(read: Callable[..., Experiment], tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    text = 'note = "one"\nseeds = [1]\n' + PLAIN + GRID + '[settings]\nlr = 0.5\nepochs = 2\n[ensembles]\nof = "Mine"\n'
    (tmp_path / "bases" / "one.toml").write_text(text)
    (tmp_path / "bases" / "two.toml").write_text('base = "one.toml"\nnote = "two"\nseeds = [2, 3]\n')
    three = """
    base = "bases/two.toml"
    beside_paper = false
    [encoders]
    b = "distillmos"
    [settings]
    epochs = 4
    [data]
    train = "t.csv"
    dev = "d.csv"
    [ensembles]
    strategies = ["all"]
    """
    experiment = read(three)
    assert (experiment.note, experiment.seeds, experiment.compare_to_paper) == ("two", (2, 3), False)
    assert experiment.encoders == {"a": "spectrum", "b": "distillmos"}
    assert experiment.data == {"train": "t.csv", "dev": "d.csv"}  # of a list and its parts nothing is left
    assert (experiment.grid[0].settings.lr, experiment.grid[0].settings.epochs) == (0.5, 4)
    assert experiment.ensembles is not None
    assert (experiment.ensembles.of, experiment.ensembles.strategies) == ("Mine", ("all",))


def test_ensembles_are_all_of_table_iii_if_nothing_else_is_said(read: Callable[..., Experiment]) -> None:
    experiment = read(PLAIN + GRID.replace("Mine", "III"))
    assert experiment.ensembles is not None
    assert (experiment.ensembles.of, experiment.ensembles.strategies) == ("III", tuple(STRATEGIES))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "cannot be read"),
        ('base = "gone.toml"', "gone.toml cannot be read"),
        ('base = "mine.toml"', "mine.toml"),
        (PLAIN, "needs grid"),
        ("colour = 3\n" + PLAIN + GRID, "has no colour; it has beside_paper, data, encoders"),
        ('preset = "big"\n' + PLAIN + GRID, "no preset is called 'big'; there are paper"),
        ('seeds = ["x"]\n' + PLAIN + GRID, "is not a valid experiment"),
        (PLAIN + GRID + "[settings]\nspeed = 3\n", "no setting is called speed; there are pool,"),
        (PLAIN + GRID + 'loss = ["ut", "mse"]\n', "loss cannot be 'mse'; it is ut or con or dcq or ccc"),
        (PLAIN + GRID + "speed = 3\n", "no setting is called speed"),
        (PLAIN + GRID.replace('["a"]', '["a", "c"]'), "the grid names c; the encoders are a, b"),
        (PLAIN + GRID.replace('["a"]', '"a b"'), "the grid names"),
        (PLAIN + GRID.replace('["a"]', "[]"), "a configuration without encoders"),
        (PLAIN.replace("musicnn", "spectrum") + GRID, "spectrum stands for both a and b"),
        (PLAIN + GRID.replace('table = "Mine"', ""), "table"),
        (PLAIN + GRID.replace("{encoders}", "{depth}"), "depth"),
        (PLAIN + GRID.replace("{encoders}", "{}"), "is not a valid experiment"),
        (PLAIN + GRID + 'loss = ["ut", "con"]\n', "two configurations of table Mine are called 'a'"),
        (
            PLAIN + GRID + '[ensembles]\nstrategies = ["best"]\n',
            "no ensembles are called best; there are submitted, all, pam_top_8",
        ),
        (PLAIN + GRID + "[ensembles]\nsize = 3\n", "size"),
    ],
)
def test_errors_name_the_file_and_what_is_wrong(read: Callable[..., Experiment], text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read(text)
    assert ".toml" in str(error.value)
    assert message in str(error.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.toml cannot be read: No such file"):
        read_experiment(tmp_path / "gone.toml")


def write(path: Path, paths: Sequence[str], extra: str = "", columns: str = "") -> None:
    path.write_text("\n".join([f"path,PQ,PC{columns}", *(f"{name},5,4{extra}" for name in paths)]))


PARTS: dict[str, Any] = {
    "list": "r.csv",
    "columns": {"group": "song"},
    "parts": {"train": 0.5, "Dev": 0.2, "Dev2": 0.2, "Radio": 0.1},
}


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """40 songs of five clips each; of one song the labels are doubtful."""
    lines = [f"{song}-{stem}.wav,{song % 10},song {song},{int(song == 7)}" for song in range(40) for stem in range(5)]
    (tmp_path / "r.csv").write_text("\n".join(["path,PQ,song,doubtful", *lines]))
    return tmp_path


def names(sets: Sets) -> dict[str, list[str]]:
    return {part: [row.clip.id for row in rows] for part, rows in {"train": sets.train, **sets.reports}.items()}


def test_one_list_is_split_by_its_fractions_and_no_song_is_cut(songs: Path) -> None:
    sets = read_sets(PARTS, songs)
    assert list(sets.reports) == ["Dev", "Dev2", "Radio"]
    assert sets.dev == sets.reports["Dev"]
    parts = {"train": sets.train, **sets.reports}
    held = {name: {row.group for row in rows} for name, rows in parts.items()}
    assert sum(map(len, held.values())) == len(set.union(*held.values())) == 40
    for name, fraction in PARTS["parts"].items():
        assert abs(len(parts[name]) - 200 * fraction) <= 5  # a song more or less


def test_the_split_hangs_on_its_seed_alone(songs: Path) -> None:
    first = names(read_sets(PARTS, songs))
    assert names(read_sets(PARTS | {"parts_seed": 0}, songs)) == first
    assert names(read_sets(PARTS | {"parts_seed": 1}, songs)) != first
    lines = (songs / "r.csv").read_text().split("\n")
    (songs / "r.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    assert {name: sorted(part) for name, part in names(read_sets(PARTS, songs)).items()} == {
        name: sorted(part) for name, part in first.items()
    }


def test_read_sets_stratifies_every_part_by_a_column(songs: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = (songs / "r.csv").read_text().split("\n")
    codecs = ["mp3" if i % 5 < 3 else "opus" for i in range(200)]
    rows = [f"{line},{codec}" for line, codec in zip(lines[1:], codecs, strict=True)]
    (songs / "r.csv").write_text("\n".join([f"{lines[0]},codec", *rows, "odd.wav,5,odd,0,odd"]))
    sets = read_sets(PARTS | {"stratify": "codec"}, songs)
    parts = {"train": sets.train, **sets.reports}
    for name, share in PARTS["parts"].items():
        found = Counter(row.stratum for row in parts[name])
        assert (found["mp3"], found["opus"]) == (round(120 * share), round(80 * share))
    groups = [row_group for rows in parts.values() for row_group in {row.group for row in rows}]
    assert len(groups) == len(set(groups)) == 41
    assert len(caplog.messages) == 3  # once for each part that "odd" is not in
    assert (
        "1 of 3 values of codec is too small to be divided: odd (1 clip, 1 group; not held out)" in caplog.messages[0]
    )
    with pytest.raises(UsageError, match=r"\[data\]: stratify cannot be 3"):
        read_sets(PARTS | {"stratify": 3}, songs)


def test_rows_of_a_list_are_chosen_by_a_column(songs: Path) -> None:
    sets = read_sets(PARTS | {"where": {"doubtful": "0"}}, songs)
    groups = {row.group for rows in (sets.train, *sets.reports.values()) for row in rows}
    assert groups == {f"song {song}" for song in range(40)} - {"song 7"}


def test_list_is_found_in_the_data_root_or_next_to_the_file(songs: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for sets in (read_sets(PARTS, elsewhere, data_root=songs), read_sets(PARTS, songs, data_root=elsewhere)):
        assert sets.train[0].clip.path == str(songs / sets.train[0].clip.id)
    with pytest.raises(ManifestError, match=r"r\.csv cannot be read: there is no such file"):
        read_sets(PARTS, elsewhere)


@pytest.fixture
def corpora(tmp_path: Path) -> dict[str, object]:
    """Lists with the paths of the published ones; nobody has the clips."""
    root = "/your_path/"
    pam = [f"{root}PAM/human_eval/{kind}/real/{i}.wav" for kind in ("audio", "music") for i in range(3)]
    voice = [f"{root}LibriTTS/train-clean-100/{i}/1/a.wav" for i in range(8)]
    suspect = f"{root}MUSDB18/train/Music Delta - Rock/mixture.wav"
    write(tmp_path / "train.csv", [*voice[:4], pam[0], suspect])
    write(tmp_path / "dev.csv", [*voice[4:], *pam[1:]])
    write(tmp_path / "test.csv", ["audiomos2025-track2-sysABCDE-utt012345", "audiomos2025-track2-sysVWXYZ-utt012345"])
    return {"train": "train.csv", "dev": "dev.csv", "test": "test.csv"}


def test_read_sets_keeps_pam_apart_and_stops_on_both(
    corpora: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sets = read_sets(corpora, tmp_path, tmp_path)
    assert (len(sets.train), len(sets.dev)) == (6, 9)
    assert {name: len(rows) for name, rows in sets.reports.items()} == {"Dev": 4, "PAM": 5, "Test": 2}
    assert {row.source for row in sets.reports["Dev"]} == {"LibriTTS"}
    assert {row.source for row in sets.reports["PAM"]} == {"PAM"}
    assert {row.system for row in sets.reports["PAM"]} == {"audio/real", "music/real"}
    assert {row.system for row in sets.reports["Test"]} == {"ABCDE", "VWXYZ"}
    assert any("6 of 6 clips are missing (LibriTTS 4, PAM 1, MUSDB18 1)" in message for message in caplog.messages)


def test_what_is_stopped_on_reported_and_dropped_can_be_chosen(corpora: dict[str, object], tmp_path: Path) -> None:
    chosen = {"select_on": "natural", "report_dev": "combined", "pam_system": "folder", "drop_suspect": True}
    sets = read_sets(corpora | chosen, tmp_path, tmp_path)
    assert (len(sets.train), len(sets.dev), len(sets.reports["Dev"])) == (5, 4, 9)
    assert {row.system for row in sets.reports["PAM"]} == {"real"}


def test_a_set_without_clips_is_not_reported(corpora: dict[str, object], tmp_path: Path) -> None:
    write(tmp_path / "dev.csv", ["/your_path/EARS/p1/a.wav"])
    del corpora["test"]
    assert list(read_sets(corpora, tmp_path, tmp_path).reports) == ["Dev"]


@pytest.mark.parametrize("part", ["dev", "test"])
def test_a_clip_in_two_splits_is_reported_with_both_lines(
    corpora: dict[str, object], tmp_path: Path, part: str
) -> None:
    write(tmp_path / "train.csv", ["/your_path/EARS/p1/a.wav", "/your_path/EARS/p2/a.wav"])
    write(tmp_path / f"{part}.csv", [f"/your_path/EARS/p{i}/a.wav" for i in (3, 4, 2)])
    with pytest.raises(ManifestError, match=rf"EARS/p2/a\.wav .*train\.csv, line 3 and .*{part}\.csv, line 4$"):
        read_sets(corpora, tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": None}, r"\[data\] needs train"),
        ({"size": 3}, r"\[data\] has no size; it has dev, drop_suspect, pam_system"),
        ({"select_on": "all"}, "select_on cannot be 'all'; it is combined or natural"),
        ({"report_dev": "pam"}, "report_dev cannot be 'pam'; it is natural or combined"),
        ({"pam_system": "prompt"}, "pam_system cannot be 'prompt'; it is kind_folder or folder"),
        (
            {"train": "gone.csv"},
            r"gone\.csv cannot be read: there is no such file.*published label files: AES_natural_speech",
        ),
    ],
)
def test_errors_say_what_is_wrong_with_the_data(
    corpora: dict[str, object], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    data = {name: value for name, value in (corpora | change).items() if value is not None}
    with pytest.raises(UsageError, match=message):
        read_sets(data, tmp_path, tmp_path)


@pytest.mark.parametrize(
    "parts", [{"train": 1}, {"train": 0.5, "Dev": 0.4}, {"Dev": 0.5, "Test": 0.5}, {"train": 1.5, "Dev": -0.5}]
)
def test_parts_are_fractions_of_train_dev_and_others(songs: Path, parts: object) -> None:
    with pytest.raises(UsageError, match="`parts` are fractions of train, Dev and any others, and sum to 1"):
        read_sets({"list": "r.csv", "parts": parts}, songs)
