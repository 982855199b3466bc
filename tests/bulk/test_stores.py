"""A store's files are whole or not there, on a disk and below an address alike."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmmos.bulk.plan import make_plan
from mmmos.bulk.stores import LOCK, LocalStore, ObjectStore, Store, open_store
from mmmos.cli.run_folder import RunOptions, run_in_folder
from mmmos.errors import MissingExtraError, UsageError
from tests.bulk_toys import ToyTask, clips_named

KINDS = ("local", "memory", pytest.param("s3", marks=pytest.mark.slow))  # its server takes 2 s to import


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Store:
    return new_store(request)


def new_store(request: pytest.FixtureRequest) -> Store:
    name = secrets.token_hex(4)
    if request.param == "local":
        return open_store(request.getfixturevalue("tmp_path") / name)
    root = "memory://runs" if request.param == "memory" else request.getfixturevalue("s3")
    return open_store(f"{root}/{name}/")


# ── any store


def test_what_was_published_is_read_whole_and_in_pieces(store: Store):
    big = secrets.token_bytes(3_000_000)
    for name, data in {"part": b"rows", "_run/commits/00000.json": b"", "_run/big": big}.items():
        store.publish(name, data)
        assert store.read(name) == data
        with store.open(name) as file:
            assert file.read() == data
    with store.open("_run/big") as file:
        file.seek(-10, os.SEEK_END)
        assert file.read() == big[-10:]
        file.seek(1_500_000)
        assert file.read(7) == big[1_500_000:1_500_007]


@pytest.mark.parametrize("name", ["none", "_run/none"])
def test_what_is_not_there_is_said_to_be_not_there(store: Store, name: str):
    store.publish("part", b"x")
    with pytest.raises(FileNotFoundError, match=f"{store.url}/{name}"):
        store.read(name)
    with pytest.raises(FileNotFoundError, match=f"{store.url}/{name}"), store.open(name) as file:
        file.read()


def test_a_store_that_was_sent_to_a_worker_is_the_same(store: Store):
    sent = pickle.loads(pickle.dumps(store))
    assert sent == store
    sent.publish("a", b"1")
    assert store.names("") == ["a"]
    assert open_store(store.url) == store


NAMES = st.sampled_from(["part-0", "part-1", "_run/run.json", "_run/commits/0", "_run/commits/1", "b", "part-10"])
STEPS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=9)), max_size=12)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["local", "memory"], indirect=True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_store_holds_what_a_dictionary_would(store: Store, steps: list[tuple[str, bytes | None]]):
    check_as_dictionary(open_store(f"{store.url}/{secrets.token_hex(4)}"), steps)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["s3"], indirect=True)
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_and_so_does_one_of_objects(store: Store, steps: list[tuple[str, bytes | None]]):
    check_as_dictionary(open_store(f"{store.url}/{secrets.token_hex(4)}"), steps)


def check_as_dictionary(store: Store, steps: list[tuple[str, bytes | None]]) -> None:
    expected: dict[str, bytes] = {}
    for name, data in steps:
        if data is None:
            store.remove(name)
            expected.pop(name, None)
        else:
            store.publish(name, data)
            expected[name] = data
    for folder in ("", "_run", "_run/commits", "_run/none"):
        below = f"{folder}/" if folder else ""
        names = [name.removeprefix(below) for name in expected if name.startswith(below)]
        assert store.names(folder) == sorted(name for name in names if "/" not in name)
    assert {name: store.read(name) for name in expected} == expected


@pytest.mark.slow
def test_many_who_publish_the_same_at_once_leave_it_whole(store: Store):
    data, seen = secrets.token_bytes(100_000), []
    store.publish("part", data)

    def publish() -> None:
        for _ in range(5):
            store.publish("part", data)
            seen.append(store.read("part") == data)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 20
    assert store.names("") == ["part"]


# ── a folder on a disk


def test_a_name_comes_after_the_bytes_and_both_are_on_the_disk(tmp_path: Path):
    steps = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        steps.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path)))
        real_sync(descriptor)

    with (
        mock.patch("os.fsync", sync),
        mock.patch("os.replace", side_effect=lambda *names: steps.append("name") or real_replace(*names)),
    ):
        LocalStore(f"{tmp_path}/run").publish("_run/a", b"1")
    folders, (written, *rest) = steps[:2], steps[2:]
    assert folders == ["", "/run"]  # each is synced once a folder is made in it
    assert written.startswith("/run/_run/.a.")
    assert rest == ["name", "/run/_run"]


@pytest.mark.parametrize("step", ["os.fsync", "os.replace", "pathlib.Path.write_bytes"])
@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_fault_at_any_step_leaves_what_was_there(tmp_path: Path, step: str, fault: BaseException):
    store = open_store(tmp_path)
    store.publish("a", b"old")
    with mock.patch(step, side_effect=fault), pytest.raises(type(fault)):
        store.publish("a", b"new")
    assert store.read("a") == b"old"
    assert os.listdir(tmp_path) == ["a"]
    store.publish("a", b"new")
    assert store.read("a") == b"new"


HALF_WRITTEN = """
import os, signal, sys
from unittest import mock
from mmmos.bulk.stores import open_store
with mock.patch("os.replace", side_effect=lambda *names: os.kill(os.getpid(), signal.SIGKILL)):
    open_store(sys.argv[1]).publish(sys.argv[2], b"half")
"""


@pytest.mark.parametrize("name", ["part-0", "_run/commits/0"])
def test_partial_file_of_a_killed_process_is_removed_later(tmp_path: Path, name: str):
    assert subprocess.run([sys.executable, "-c", HALF_WRITTEN, tmp_path, name]).returncode == -signal.SIGKILL
    store = open_store(tmp_path)
    folder = os.path.dirname(name)
    assert (store.names(folder), len(os.listdir(tmp_path / folder))) == ([], 1)
    (tmp_path / "notes.part").write_text("of somebody else")
    store.remove_stale(60.0)
    assert len(os.listdir(tmp_path / folder)) == (1 if folder else 2)
    (left,) = (tmp_path / folder).glob(".*")
    age(left)
    store.remove_stale(60.0)
    assert not left.exists()
    assert store.names("") == ["notes.part"]


def age(path: Path) -> None:
    os.utime(path, (time.time() - 61, time.time() - 61))


@pytest.mark.parametrize("name", [".film.mkv.part", "clips/.part-00000.parquet.1.part", "_run/old/.a.part", "a.part"])
def test_files_of_other_people_stay(tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("of somebody else")
    age(tmp_path / name)
    open_store(tmp_path).remove_stale(60.0)
    assert (tmp_path / name).exists()


def test_a_folder_is_not_swept_before_it_is_known_to_be_a_run_s(tmp_path: Path):
    old = tmp_path / ".part-00000.parquet.12345678.part"
    for path in (old, tmp_path / "part-00000.parquet"):
        path.touch()
    age(old)
    options = RunOptions(workers=1, ray=None, shard_size=None, stall_minutes=1.0)
    with pytest.raises(UsageError, match=r"has other files, such as part-00000\.parquet"):
        run_in_folder(str(tmp_path), clips_named("a"), ToyTask(), options, "testing")
    assert old.exists()
    store = open_store(tmp_path)
    store.remove("part-00000.parquet")
    make_plan(store, [], ToyTask().describe())
    with mock.patch("mmmos.cli.run_folder.LEASE_SECONDS", 60.0):
        run_in_folder(str(tmp_path), [], ToyTask(), options, "testing")
    assert not old.exists()


def test_a_second_driver_is_kept_out_until_the_first_is_gone(tmp_path: Path):
    store = open_store(tmp_path / "run")
    hold = (
        "import sys; from mmmos.bulk.stores import *\nwith open_store(sys.argv[1]).lock(): print(flush=True); input()"
    )
    command = [sys.executable, "-c", hold, store.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(UsageError, match="another run uses this folder"), store.lock():
            pass
        other.kill()
    for _ in range(2):
        with store.lock():
            assert store.names("_run") == [os.path.basename(LOCK)]


def test_a_disk_that_knows_no_locks_is_worked_on_without(tmp_path: Path):
    store = open_store(tmp_path)
    with mock.patch.object(fcntl, "flock", side_effect=OSError(errno.ENOLCK, "No locks available")), store.lock():
        store.publish("a", b"1")
    denied = OSError(errno.EIO, "Input/output error")
    with mock.patch.object(fcntl, "flock", side_effect=denied), pytest.raises(OSError, match="Input"), store.lock():
        pass


def test_a_path_is_a_folder_wherever_the_worker_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for typed in ("run", Path("run"), f"{tmp_path}/run/", f"file://{tmp_path}/run"):
        assert open_store(typed) == LocalStore(str(tmp_path / "run"))


# ── objects below an address


@pytest.mark.slow
def test_an_address_stays_as_it_was_given(s3: str):
    assert open_store(f"{s3}/a/b/") == ObjectStore(f"{s3}/a/b")
    store = open_store(s3)  # a bucket of its own
    store.publish("part", b"1")
    assert store.names("") == ["part"]


@pytest.mark.slow
def test_objects_need_no_lock_and_leave_nothing_half_written(s3: str):
    store = open_store(f"{s3}/run")
    with store.lock(), store.lock():
        store.publish("a", b"1")
    store.remove_stale(0.0)
    assert store.names("") == ["a"]


@pytest.mark.slow
def test_missing_bucket_is_an_os_error_with_its_address(s3: str):
    with pytest.raises(OSError, match=rf"bucket does not exist.*{s3}-none/run/a"):
        open_store(f"{s3}-none/run").publish("a", b"1")


@pytest.mark.slow
def test_missing_server_is_an_os_error_with_its_address(s3: str):
    code = "from mmmos.bulk.stores import *\nopen_store('s3://bucket/run').publish('a', b'1')"
    nobody = {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=nobody, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("OSError: s3://bucket/run/a: Could not connect")


@pytest.mark.slow
def test_a_package_that_is_missing_is_named():
    code = "import sys; sys.modules['s3fs'] = None\nfrom mmmos.bulk.stores import *\nopen_store('s3://bucket/run')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert MissingExtraError.__name__ in done.stderr
    assert "pip install 'mmmos[s3]'" in done.stderr.splitlines()[-1]


def test_an_address_of_no_known_scheme_is_wrong_usage():
    with pytest.raises(UsageError, match="nowhere://bucket"):
        open_store("nowhere://bucket")


def test_a_folder_on_a_disk_needs_no_fsspec(tmp_path: Path):
    code = (
        "import sys; from mmmos.bulk.stores import *; s = open_store(sys.argv[1]); s.publish('a', b'1'); s.names('')\n"
        "print(s.read('a'), 'fsspec' in sys.modules, 'pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["b'1'", "False", "False"]
