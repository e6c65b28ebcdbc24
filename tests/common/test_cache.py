"""What is in the store is right, whoever wrote it, and whatever happened meanwhile."""

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ser_lib.common import cache

SETTINGS = {"n_mfcc": 40, "audio": {"sampling_rate": 16000, "max_seconds": None}}
ENTRY = np.arange(6, dtype=np.float32).reshape(2, 3)


def table(n_clips=5, start=0) -> pd.DataFrame:
    """Clips whose path is a number, which `square` squares."""
    numbers = [str(number) for number in range(start, start + n_clips)]
    return pd.DataFrame({"path": numbers, "audio_hash": [f"{int(number):032x}"[::-1] for number in numbers]})


def square(path: str) -> np.ndarray:
    return np.full((2, 3), int(path) ** 2, np.float32)


def never(path: str) -> np.ndarray:
    raise AssertionError(f"{path} was computed again")


def collect(clips, compute=square, settings=SETTINGS, **options) -> list[np.ndarray]:
    return cache.collect(clips, "squares", settings, compute, progress=False, **options)


def entries() -> list[Path]:
    return sorted(cache.cache_dir().glob("store/*/*/*/*.npz"))


def is_right(arrays, clips) -> bool:
    return len(arrays) == len(clips) and all(
        np.array_equal(array, square(path)) for array, path in zip(arrays, clips["path"], strict=True)
    )


@pytest.mark.parametrize(
    "array",
    [
        ENTRY,
        ENTRY.astype(np.float16),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.array(3, dtype=np.int64),
        np.empty((0, 5), np.float32),
        np.float32([np.nan, np.inf, -0.0]),
        np.array(["words", "too"]),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_an_array_comes_back_as_it_was(array):
    cache.put("any", SETTINGS, "ab12", array)
    back = cache.get("any", SETTINGS, "ab12")
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_what_was_never_stored_is_none():
    assert cache.get("any", SETTINGS, "ab12") is None


def test_python_objects_are_refused_and_leave_nothing_behind():
    with pytest.raises(ValueError, match="allow_pickle"):
        cache.put("any", SETTINGS, "ab12", np.array([{}]))
    assert entries() == [] and cache.get("any", SETTINGS, "ab12") is None


def test_an_entry_is_a_plain_npz_and_its_settings_lie_beside():
    cache.put("any", SETTINGS, "ab12", ENTRY)
    (path,) = entries()
    assert path.parent.name == "ab" and path.name == "ab12.npz"
    with np.load(path, allow_pickle=False) as file:
        assert np.array_equal(file["array"], ENTRY)
    assert json.loads((path.parents[1] / "settings.json").read_text()) == SETTINGS


def test_the_order_of_settings_does_not_matter_and_their_values_do():
    cache.put("any", {"a": 1, "b": 2}, "ab12", ENTRY)
    assert cache.get("any", {"b": 2, "a": 1}, "ab12") is not None
    assert cache.get("any", {"a": 1, "b": 3}, "ab12") is None
    assert cache.get("other", {"a": 1, "b": 2}, "ab12") is None
    assert cache.get("any", {"a": 1, "b": 2}, "ab13") is None


def test_settings_that_json_cannot_hold_are_refused():
    with pytest.raises(TypeError, match="JSON"):
        cache.get("any", {"path": Path("a")}, "ab12")


# collect


@pytest.mark.parametrize("n_clips", [0, 1, 5, 20])
def test_arrays_come_in_the_order_of_the_rows(n_clips):
    clips = table(n_clips)
    assert is_right(collect(clips), clips)
    backwards = clips.iloc[::-1]
    assert is_right(collect(backwards, compute=never), backwards)


def test_the_second_call_computes_only_what_is_new():
    collect(table(3))
    computed = []
    clips = table(5)
    assert is_right(collect(clips, lambda path: computed.append(path) or square(path)), clips)
    assert sorted(computed) == ["3", "4"]


def test_other_settings_compute_anew_and_keep_the_old():
    collect(table())
    with pytest.raises(AssertionError, match="computed again"):
        collect(table(), never, settings={**SETTINGS, "n_mfcc": 13})
    collect(table(), never)


def test_twins_are_computed_once_and_both_get_the_array():
    clips = pd.DataFrame({"path": ["3", "3", "4"], "audio_hash": ["aa", "aa", "bb"]})
    computed = []
    arrays = collect(clips, lambda path: computed.append(path) or square(path))
    assert computed == ["3", "4"]
    assert is_right(arrays, clips)


def test_what_was_computed_before_a_failure_is_kept():
    def fails_at_3(path):
        if path == "3":
            raise RuntimeError("no")
        return square(path)

    with pytest.raises(RuntimeError, match="no"):
        collect(table(5), fails_at_3)
    assert len(entries()) == 3
    assert is_right(collect(table(3), never), table(3))


def test_progress_goes_to_stderr_only(capsys):
    cache.collect(table(), "squares", SETTINGS, square, progress=True)
    assert capsys.readouterr().out == ""


# Damage


@pytest.mark.parametrize("length", [0, 1, 30, 100, -1])
def test_a_truncated_entry_is_computed_again_and_mended(length, caplog):
    clips = table()
    collect(clips)
    damaged = entries()[2]
    damaged.write_bytes(damaged.read_bytes()[:length])
    assert is_right(collect(clips), clips)
    assert str(damaged) in caplog.text and "damaged" in caplog.text
    assert is_right(collect(clips, never), clips)


def test_rubbish_in_place_of_an_entry_is_computed_again(caplog):
    clips = table()
    collect(clips)
    entries()[0].write_text("rubbish")
    with zipfile.ZipFile(entries()[1], "w") as archive:
        archive.writestr("another member", "rubbish")
    with zipfile.ZipFile(entries()[2], "w") as archive:
        archive.writestr("array.npy", "no array")
    np.savez(entries()[3], array=np.array([{}], dtype=object))  # a pickle, which is never opened
    assert is_right(collect(clips), clips)
    assert len(caplog.records) == 4
    assert is_right(collect(clips, never), clips)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_an_entry_with_any_bit_flipped_is_right_or_none(data):
    cache.put("any", SETTINGS, "ab12", ENTRY)
    (path,) = entries()
    whole = bytearray(path.read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)
    back = cache.get("any", SETTINGS, "ab12")
    assert back is None or np.array_equal(back, ENTRY)


# Several processes, and their ends


def fill(cache: str, start: int, barrier) -> None:
    os.environ["SER_CACHE_DIR"] = cache
    barrier.wait()
    clips = table(60, start)
    assert is_right(collect(clips, n_jobs=1), clips)


def test_two_processes_may_fill_one_store_at_once():
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=fill, args=(os.environ["SER_CACHE_DIR"], start, barrier)) for start in (0, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(entries()) == 80
    assert is_right(collect(table(80), never), table(80))
    assert not list(cache.cache_dir().glob("store/*/*/*/.*"))  # no temporary file is left


KILLED = """
import os, signal
import numpy as np, pandas as pd
from ser_lib.common import cache

clips = pd.DataFrame({{"path": [str(n) for n in range(10)], "audio_hash": [f"{{n:032x}}"[::-1] for n in range(10)]}})

def killed_while_writing(source, target):
    if target.name == clips["audio_hash"][7] + ".npz":
        os.kill(os.getpid(), signal.SIGKILL)  # the temporary file is there, the entry not yet
    os.rename(source, target)

cache.Path.replace = killed_while_writing
cache.collect(clips, "squares", {settings}, lambda path: np.full((2, 3), int(path) ** 2, np.float32), n_jobs=1)
"""


def test_a_run_killed_while_writing_goes_on_where_it_was():
    child = subprocess.run([sys.executable, "-c", KILLED.format(settings=SETTINGS)], capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert len(entries()) == 7 + 1  # the eighth is the temporary file that nobody reads
    computed = []
    clips = table(10)
    assert is_right(collect(clips, lambda path: computed.append(path) or square(path)), clips)
    assert computed == ["7", "8", "9"]


def write_on_a_full_disk(connection) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails, as on a full disk, instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        collect(table(2), lambda path: np.ones(10_000) if path == "1" else square(path), n_jobs=1)
    except OSError as error:
        connection.send(str(error))
    else:
        connection.send("no error")


def test_a_full_disk_is_an_error_and_leaves_no_half_entry():
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=write_on_a_full_disk, args=(theirs,))
    worker.start()
    message = ours.recv()
    worker.join()
    assert "File too large" in message
    assert [path.stem for path in entries()] == [table(1)["audio_hash"][0]]
    assert not list(cache.cache_dir().glob("store/*/*/*/.*"))
    assert is_right(collect(table(2)), table(2))


WORKERS = """
import os, sys, time, logging
import numpy as np, pandas as pd
from ser_lib.common import cache
def slow(path):
    pathlib = __import__("pathlib")
    pathlib.Path(sys.argv[1], f"worker-{os.getpid()}").touch()
    time.sleep(0.3)
    return np.zeros(1)
clips = pd.DataFrame({"audio_hash": [f"{i:04}" for i in range(200)], "path": [str(i) for i in range(200)]})
try:
    cache.collect(clips, "slow", {}, slow, progress=False, n_jobs=2)
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.fixture
def working(tmp_path):
    """A process that computes for minutes with two workers, and the ids of the workers."""
    folder = tmp_path / "workers"
    folder.mkdir()
    process = subprocess.Popen([sys.executable, "-c", WORKERS, str(folder)], stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    yield process, [int(path.name.split("-")[1]) for path in folder.iterdir()]
    process.kill()
    process.wait()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
class TestAKill:
    def test_of_a_worker_is_an_error_that_says_what_to_do(self, working):
        process, workers = working
        os.kill(workers[0], signal.SIGKILL)
        assert "SerError slow: one of the processes that compute it was ended" in process.communicate(timeout=120)[0]

    def test_of_the_process_ends_its_workers(self, working):
        process, workers = working
        process.kill()
        process.wait()
        until = time.monotonic() + 60
        while any(psutil.pid_exists(worker) and psutil.Process(worker).status() != "zombie" for worker in workers):
            assert time.monotonic() < until, "a worker is still there"
            time.sleep(0.1)
