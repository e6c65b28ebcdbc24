"""Kill, starve, damage and confuse the package, and count what is lost: `make torture`.

    python scripts/torture.py --kills 200 --disks 12 --damaged 300 --inputs 1000000

Every attack repeats with the same seed, but for the moments of the kills. The figures are printed and written to the end
of docs/reliability.md. Exit status 1: something was lost or changed, or there was a traceback, or foreign code ran.
"""

import argparse
import hashlib
import json
import logging
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]
PAGE = PROJECT / "docs" / "reliability.md"
MARKER = "<!-- written by make torture: everything below -->"
# Seconds after which a process that still runs is one that was left behind.
PATIENCE = 10
SMALL = ["emotions=[neutral,happy,sad]", "split.folds=2", "training.device=cpu"]
Row = tuple[str, int, Counter]


class Job:
    """A command in folders of its own, and what an undisturbed run of it leaves."""

    def __init__(self, name: str, arguments: list[str], place: Path, makes_run: bool = True):
        self.name, self.place, self.makes_run, self.share = name, place, makes_run, 0.0
        self.arguments = [part.replace("PLACE", str(place)) for part in arguments]
        self.reference, self.seconds = "", 0.0

    def prepare(self) -> None:
        """Run undisturbed, and keep the hash of its results."""
        self.clean()
        started = time.monotonic()
        process = self.start()
        text = process.communicate()[1].decode()
        self.seconds, self.reference = time.monotonic() - started, self.results()
        if process.returncode or not self.reference:
            raise SystemExit(f"{self.name} fails even undisturbed:\n{text}")

    def clean(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)

    def start(self, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "SER_CACHE_DIR": str(self.place / "cache")}
        environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "2"}
        command = [*prefix, sys.executable, "-m", "ser_lib", *self.arguments]
        places: dict[str, Any] = {"env": environment, "cwd": self.place, "start_new_session": True}
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **places)

    def results(self) -> str:
        """A hash of everything that the command computes; "" where it is not complete."""
        from ser_lib.common.errors import SerError
        from ser_lib.common.files import PART
        from ser_lib.inference.run import load_run

        folders = [path.parent for path in self.place.glob("runs/**/metrics.json") if ".partial" not in str(path)]
        entries = sorted(self.place.glob("cache/store/*/*/*/*.npz")) if not self.makes_run else []
        # What a killed process was writing, which nobody reads.
        entries = [path for path in entries if PART not in path.name]
        digest = hashlib.sha256()
        try:
            for folder in folders:
                run = load_run(folder)
                run.predictor()
                digest.update(run.predictions.to_csv().encode() + json.dumps(run.metrics).encode())
        except SerError as error:
            return f"damaged: {error}"
        for entry in entries:
            digest.update(entry.name.encode() + entry.read_bytes())
        return digest.hexdigest() if folders or entries else ""


def kills(count: int, kinds: list[str], place: Path, chance: random.Random) -> Iterator[Row]:
    """Kill processes, and the processes that they start, at any moment; then let the same command end."""
    for job in jobs(place):
        if kinds and job.name not in kinds:
            continue
        job.prepare()
        found: Counter = Counter()
        part = max(1, round(count * job.share))
        job.clean()
        for number in range(part):
            process = job.start()
            time.sleep(chance.uniform(0.2, 1.0) * job.seconds)
            disturb(process, chance, found)
            check_text(process.communicate()[1].decode(errors="replace"), found)
            check_left(process, found)
            # Every third time the work begins anew, so that kills meet all of it.
            if number % 3 == 2 or number == part - 1:
                complete = job.start()
                text = complete.communicate()[1].decode(errors="replace")
                check_text(text, found)
                is_lost, is_changed = complete.returncode != 0, job.results() != job.reference
                found["results lost"] += is_lost
                found["results changed"] += is_changed and not is_lost
                if is_lost or is_changed:
                    print(job.name, complete.returncode, job.results(), text[-2000:], file=sys.stderr)
                job.clean()
            else:
                found["results changed"] += job.makes_run and job.results() not in ("", job.reference)
        yield f"kills of `ser {job.arguments[0]}` ({job.name}), and of its workers", part, found


def jobs(place: Path) -> list[Job]:
    """The commands that are killed, and the share of the kills that each gets."""
    from tiny import tiny_checkpoint

    encoder = tiny_checkpoint(place / "encoder", "wav2vec2")
    tiny = [*SMALL, "corpora=[sample]", f"input.encoder={encoder}"]
    tuned, embedded = [*tiny, "training.epochs=1"], [*tiny, "input.layers=all"]
    to = ["--runs-dir", "PLACE/runs"]
    listed = [
        (0.3, Job("training", ["train", "demo", "--set", *SMALL, "training.epochs=8", *to], place / "train")),
        (0.2, Job("features", ["prepare", "demo", "--set", *SMALL], place / "features", False)),
        (0.2, Job("embeddings", ["prepare", "ravdess-whisper-logistic", "--set", *embedded], place / "embed", False)),
        (0.2, Job("fine-tuning", ["train", "tess-wav2vec2-finetune", "--set", *tuned, *to], place / "tune")),
        (0.1, Job("notebooks", ["report", "demo", "--set", *SMALL, "training.epochs=2", *to], place / "report")),
    ]
    listed[-1][1].arguments += ["--reports-dir", str(place / "report" / "reports")]
    for share, job in listed:
        job.share = share
    return [job for _, job in listed]


def disturb(process: subprocess.Popen, chance: random.Random, found: Counter) -> None:
    """Kill the process, ask it to end, or kill one that it has started."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        # joblib's own helper, which deletes what killed workers left; its death prints a traceback, and changes nothing.
        children = [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
        way = chance.choice(["kill", "terminate", "worker"])
        if way == "worker" and children:
            found["of these, workers"] += 1
            chance.choice(children).kill()
        elif way == "terminate":
            found["of these, SIGTERM"] += 1
            process.send_signal(signal.SIGTERM)
        else:
            process.kill()


def check_left(process: subprocess.Popen, found: Counter) -> None:
    """Count the processes of the session that are still there after some seconds, and end them."""
    until = time.monotonic() + PATIENCE
    while (left := of_session(process.pid)) and time.monotonic() < until:
        time.sleep(0.2)
    found["processes left"] += len(left)
    for other in left:
        with suppress(psutil.NoSuchProcess):
            other.kill()


def of_session(session: int) -> list[psutil.Process]:
    """The living processes of a session."""
    living = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living


def check_text(text: str, found: Counter) -> None:
    if "Traceback (most recent call last)" in text:
        found["tracebacks"] += 1
        print(text[-3000:], file=sys.stderr)


def disks(count: int, place: Path, chance: random.Random) -> Iterator[Row]:
    """Run commands on disks that become full, or are read-only; then with room again."""
    probe = subprocess.run(["unshare", "-rm", "true"], capture_output=True)
    if probe.returncode:
        print("disks: not run, as this machine lets nobody mount one")
        return
    for job in [job for job in jobs(place) if job.name != "notebooks"]:
        job.prepare()
        size = sum(path.stat().st_size for path in job.place.rglob("*") if path.is_file())
        found: Counter = Counter()
        part = max(1, count // 4)
        for number in range(part):
            job.clean()
            read_only = number == part - 1
            kilobytes = max(16, round(chance.uniform(0.05, 0.95) * size / 1024))
            option = "ro" if read_only else f"size={kilobytes}k"
            mount = f'mount -t tmpfs -o {option} none "$0" && cd "$0" && exec "$@"'
            process = job.start(("unshare", "-rm", "sh", "-c", mount, str(job.place)))
            text = process.communicate()[1].decode(errors="replace")
            check_text(text, found)
            found["ended without a message"] += process.returncode != 0 and "ser: " not in text
            found["read-only"] += read_only
        yield f"full and read-only disks under `ser {job.arguments[0]}` ({job.name})", part, found


def damaged(count: int, place: Path, chance: random.Random) -> Iterator[Row]:
    """Damage files of a run, an encoder, a corpus and results, and use them."""
    from tiny import tiny_checkpoint

    from ser_lib.cli import main

    logging.disable()
    os.environ |= {"SER_CACHE_DIR": str(place / "cache"), "HF_HUB_OFFLINE": "1", "ATTACKED": str(place / "attacked")}
    encoder = tiny_checkpoint(place / "encoder", "wav2vec2")
    settings = [*SMALL, "corpora=[sample]", "training.epochs=1", f"input.encoder={encoder}"]
    embedded = [*SMALL, "corpora=[sample]", "input.layers=all"]
    original, reports = place / "original", place / "original-reports"
    quietly(main, ["train", "demo", "--set", *SMALL, "training.epochs=2", "--runs-dir", str(original)])
    quietly(main, ["train", "tess-wav2vec2-finetune", "--set", *settings, "--runs-dir", str(original)])
    evaluate = ["--set", *SMALL, "training.epochs=2", "--runs-dir", str(original), "--reports-dir", str(reports)]
    quietly(main, ["evaluate", "demo", *evaluate])
    voice = str(
        next((PROJECT / "data" / "sample").rglob("*.flac"), None) or next((PROJECT / "data/sample").rglob("*.wav"))
    )
    folders = [path.parent for path in original.glob("**/manifest.json")]
    for with_manifest in (True, False):
        found: Counter = Counter()
        part = max(1, count // 2)
        for _ in range(part):
            copy = place / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(chance.choice(folders), copy / "run")
            shutil.copytree(reports, copy / "reports")
            shutil.copytree(encoder, copy / "encoder")
            if not with_manifest:
                (copy / "run" / "manifest.json").unlink()
            files = [path for path in copy.rglob("*") if path.is_file() and path.name != "README.md"]
            target = chance.choice(files)
            before, after = target.read_bytes(), damage(target.read_bytes(), chance)
            commands = [
                ["predict", str(copy / "run"), voice, "--json"],
                ["compare", str(copy / "run"), str(copy / "run")],
                ["results", "--reports-dir", str(copy / "reports")],
                ["export", str(copy / "run"), "--to", "hub", "--output", str(copy / "hub")],
                ["prepare", "ravdess-whisper-logistic", "--set", *embedded, f"input.encoder={copy / 'encoder'}"],
            ]
            # An embedding takes seconds: only where its encoder is the damaged one.
            commands = commands[-1:] if target.is_relative_to(copy / "encoder") else commands[:-1]
            expected = [quietly(main, command)[1] for command in commands[:1]] if with_manifest else []
            target.write_bytes(after)
            shutil.rmtree(copy / "hub", ignore_errors=True)
            for number, command in enumerate(commands):
                status, output, text = quietly(main, command)
                found["commands"] += 1
                found["tracebacks"] += status is None
                if status is None:
                    print(target, before != after, command[0], text[-2500:], file=sys.stderr)
                found["refused in a sentence"] += status == 1 and text.startswith("ser: ")
                if number == 0 and expected and status == 0 and target.is_relative_to(copy / "run"):
                    found["results changed"] += output != expected[0]
        yield f"damaged files, {'with' if with_manifest else 'without'} a manifest", part, found
    found = Counter({"foreign code run": (place / "attacked").exists()})
    yield "folders that bring a program (`auto_map`, pickles)", programs(place, voice, folders, main), found
    logging.disable(logging.NOTSET)


def programs(place: Path, voice: str, folders: list[Path], main: Callable) -> int:
    """Put a program into copies of runs, in every way that transformers knows, and use them; returns their number."""
    program = "import os, pathlib\npathlib.Path(os.environ['ATTACKED']).touch()\nclass Mine: pass\n"
    ways = [("config.json", "AutoConfig"), ("config.json", "AutoModelForAudioClassification")]
    ways += [("preprocessor_config.json", "AutoFeatureExtractor"), ("preprocessor_config.json", "AutoProcessor")]
    number = 0
    for folder in folders:
        for name, kind in ways:
            copy = place / f"program-{number}"
            shutil.copytree(folder, copy)
            (copy / "manifest.json").unlink()
            path = copy / "model" / name
            if not path.is_file():
                path.write_text("{}")
            (path.parent / "mine.py").write_text(program)
            stated = json.loads(path.read_text()) | {"auto_map": {kind: "mine.Mine"}, "model_type": "mine"}
            path.write_text(json.dumps(stated))
            quietly(main, ["predict", str(copy), voice])
            number += 1
    return number


def damage(content: bytes, chance: random.Random) -> bytes:
    """The content, damaged in one of the ways in which files are."""
    place = chance.randrange(max(1, len(content)))
    flipped = bytearray(content or b"x")
    flipped[min(place, len(flipped) - 1)] ^= 1 << chance.randrange(8)
    digits = [number for number, byte in enumerate(content[:100_000]) if 48 <= byte <= 57] or [0]
    changed = bytearray(content or b"x")
    changed[chance.choice(digits)] = ord("7")
    ways = [b"", content[:place], bytes(flipped), bytes(changed), chance.randbytes(200), b"[]", b"null", b"{}", b"1\n"]
    return chance.choice([*ways, content + content[:place], b"\xff\xfe" + content, b"[" * 5000])


def quietly(main: Callable, arguments: list[str]) -> tuple[int | None, str, str]:
    """The exit status of a command in this process (None: a traceback), its output, and its messages."""
    output, messages = StringIO(), StringIO()
    with redirect_stdout(output), redirect_stderr(messages):
        try:
            status: int | None = main(arguments)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except Exception:
            import traceback

            return None, output.getvalue(), traceback.format_exc()
    return status, output.getvalue(), messages.getvalue()


def inputs(count: int, kinds: list[str], chance: random.Random) -> Iterator[Row]:
    """Give everything that reads foreign input what hypothesis invents, and variants of it, which take less time."""
    import foreign_input

    logging.disable()
    # Hypothesis remembers what it has tried, which fills the memory in long runs.
    at_once = 500
    figures: dict[str, Counter] = {kind: Counter() for kind in kinds or foreign_input.PROPERTIES}
    seconds = dict.fromkeys(figures, 0.0)
    # A name such as "." is a folder, which is searched.
    with tempfile.TemporaryDirectory() as empty, chdir(empty):
        while sum(found["executions"] for found in figures.values()) < count:
            # Each kind gets the same time.
            kind = min(seconds, key=lambda name: seconds[name])
            executed, of = foreign_input.PROPERTIES[kind]
            started, invented = time.monotonic(), texts_of(of, at_once, chance.randrange(2**32))
            for text in [*invented, *(variant(invented, chance) for _ in range(9 * at_once))]:
                figures[kind]["executions"] += 1
                try:
                    executed(text)
                except Exception as error:
                    figures[kind]["tracebacks"] += 1
                    print(kind, repr(text), repr(error)[:2000], file=sys.stderr)
            seconds[kind] += time.monotonic() - started
    for kind, found in figures.items():
        yield f"invented input: {kind}", found.pop("executions"), found
    logging.disable(logging.NOTSET)


def texts_of(strategy: Any, count: int, start: int) -> list[str]:
    """What hypothesis invents by a strategy for texts, the same for the same start."""
    from hypothesis import HealthCheck, given, seed, settings

    texts = []

    @seed(start)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def invent(text: str) -> None:
        texts.append(text)

    invent()
    return texts


def variant(texts: list[str], chance: random.Random) -> str:
    """Parts of two texts, joined, and one of the signs that mean something."""
    import foreign_input

    first, second = chance.choice(texts), chance.choice(texts)
    start, end = sorted(chance.randrange(len(first) + 1) for _ in range(2))
    middle = chance.choice(["", second[chance.randrange(len(second) + 1) :], chance.choice(foreign_input.SIGNS)])
    return first[:start] + middle + first[chance.choice([start, end]) :]


def write_page(rows: list[Row]) -> str:
    """The table of the figures, also written to the end of the page, where rows of attacks that were not run stay."""
    from ser_lib.inference.run import git_commit

    heads = ["attack", "times", "results lost or changed", "tracebacks", "processes left", "and", "measured"]
    above, _, below = PAGE.read_text(encoding="utf-8").partition(MARKER)
    lines = {line.split("|")[1].strip(): line for line in below.splitlines() if line.startswith("| ")}
    machine = f"{os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}"
    for what, times, found in rows:
        lost = found["results lost"] + found["results changed"]
        shown = {"results lost", "results changed", "tracebacks", "processes left"}
        others = ", ".join(f"{number:,} {name}" for name, number in found.items() if name not in shown and number)
        figures = [f"{times:,}", lost, found["tracebacks"], found["processes left"], others]
        cells = [what, *figures, f"{datetime.now(UTC):%Y-%m-%d} at {git_commit()}, on {machine}"]
        lines[what] = f"| {' | '.join(map(str, cells))} |"
    lines.pop(heads[0], None)
    table = "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *sorted(lines.values())])
    PAGE.write_text(f"{above}{MARKER}\n\n{table}\n", encoding="utf-8")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in {"kills": 200, "disks": 40, "damaged": 300, "inputs": 1_000_000, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--kinds", nargs="+", default=[], help="of invented input and of killed commands, as the table names them"
    )
    options = parser.parse_args()
    chance, rows = random.Random(options.seed), []
    with tempfile.TemporaryDirectory(prefix="ser-torture-") as name:
        place = Path(name)
        parts = [
            options.damaged and damaged(options.damaged, place / "damaged", chance),
            options.inputs and inputs(options.inputs, options.kinds, chance),
            options.disks and disks(options.disks, place / "disks", chance),
            options.kills and kills(options.kills, options.kinds, place / "kills", chance),
        ]
        # What was measured until then is kept.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            for part in filter(None, parts):
                for row in part:
                    rows.append(row)
                    print(f"{row[0]}: {row[1]}, {dict(row[2])}", flush=True)
    print(write_page(rows))
    bad = (
        "results lost",
        "results changed",
        "tracebacks",
        "processes left",
        "foreign code run",
        "ended without a message",
    )
    return int(any(found[name] for _, _, found in rows for name in bad))


if __name__ == "__main__":
    sys.exit(main())
