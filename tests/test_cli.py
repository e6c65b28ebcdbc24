import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ser_lib.cli import COMMANDS, OPTIONS, build_parser, main, overrides_of, run_and_files
from ser_lib.inference import run as run_module
from ser_lib.models.base import MODELS
from ser_lib.recipes import recipe_names
from ser_lib.training import experiment

ROOT = Path(__file__).parents[1]


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "ser_lib", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_help_imports_nothing_heavy():
    """Half a second is the aim; a test of time would depend on the machine, one of what is imported does not."""
    script = (
        "import sys; from ser_lib.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'pandas', 'numpy', 'librosa', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("[]")
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_answers_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"ser {command}" in capsys.readouterr().out.split("examples:")[1]


@pytest.mark.parametrize(("name", "hint"), [("pedict", "did you mean 'predict'? "), ("zzzz", "")])
def test_a_command_that_does_not_exist_is_answered_with_those_that_do(name, hint, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "voice.wav"])
    assert stopped.value.code == 2
    assert f"there is no command '{name}': {hint}expected one of corpora, recipes," in capsys.readouterr().err


def test_every_parameter_has_an_option_and_every_option_a_command():
    assert {name for function in COMMANDS.values() for name in inspect.signature(function).parameters} == set(OPTIONS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "demoo"], "unknown recipe 'demoo'. Did you mean demo?"),
        (["train", "demo", "--set", "training.epoch=3"], "did you mean 'training.epochs'?"),
        (["train", "demo", "--protocol", "speakers"], "unknown protocol 'speakers': did you mean 'speaker'?"),
        (["corpora", "ravdes"], "unknown corpus 'ravdes': did you mean 'ravdess'?"),
        (["evaluate", "demo", "--runs-dir", "/nowhere"], "is not a run folder"),
        (["report"], "name a recipe"),
        (["train", "demo", "--variant", "as-run"], "has no as-run variant"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(arguments, message, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("ser: ") and message in error


def test_corpora_lists_them_and_counts_one(capsys):
    assert main(["corpora"]) == 0
    listed = capsys.readouterr().out
    for name in ("ravdess", "tess", "crema_d", "savee", "sample"):
        assert name in listed
    assert main(["corpora", "sample"]) == 0
    assert "256" in capsys.readouterr().out


def test_train_then_evaluate_then_results(tmp_path, capsys):
    shared = ["demo", "--runs-dir", str(tmp_path / "runs"), "--set", "training.epochs=1", "split.folds=2"]
    assert main(["prepare", *shared]) == 0
    assert "256 × " in capsys.readouterr().out
    assert main(["train", *shared]) == 0
    assert ", speaker: UAR 0." in capsys.readouterr().out
    evaluate = ["evaluate", *shared, "--reports-dir", str(tmp_path / "reports")]
    assert main(evaluate) == 0
    assert main(["results", "--reports-dir", str(tmp_path / "reports")]) == 0
    assert "stated; training.epochs=1; split.folds=2" in capsys.readouterr().out
    assert main([*evaluate[:4], "--reports-dir", str(tmp_path / "reports")]) == 1
    error = capsys.readouterr().err
    assert "is not a run folder: it does not exist" in error
    (folder,) = (tmp_path / "runs").glob("demo-*/speaker/0")
    assert f"did you mean {folder}?" in error
    assert main(["runs", "--runs-dir", str(tmp_path / "runs")]) == 0
    heads, row = capsys.readouterr().out.splitlines()
    assert heads.split() == ["run", "UAR", "clips", "finished", "settings"]
    assert re.fullmatch(rf"{folder}  0\.\d+ \(.*\)  256 +20.*  stated; training.epochs=1; split.folds=2", row)


def test_recipes_lists_recipes_and_heads_with_a_line_each(capsys):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    for name in [*recipe_names(), *MODELS]:
        assert re.search(rf"^  {name} +[A-Z].+", listed, re.M), name


@pytest.mark.parametrize(
    ("run", "advice"),
    [
        ("runs/nothing-here", "`ser train RECIPE`"),
        ("runs/demo/published/3", "`ser train demo --protocol published --seed 3`"),
        ("runs/tess-mfcc-gru-as-run/published/0", "`ser train tess-mfcc-gru --variant as-run --protocol published`"),
        ("my-runs/demo", "`ser train demo`"),
    ],
)
def test_a_run_that_is_not_there_is_never_looked_up_on_the_hub(run, advice, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-runs").mkdir()
    monkeypatch.setattr(run_module, "_fetched", lambda name: 1 / 0)
    assert main(["predict", run, "voice.wav"]) == 1
    error = capsys.readouterr().err
    assert f"{run} is not a run folder: it does not exist. {advice} makes one" in error


def test_set_takes_one_text_or_several_and_lists_with_spaces():
    for texts in (["corpora=[a, b] training.epochs=3"], ["corpora=[a, b]", "training.epochs=3"]):
        options = build_parser().parse_args(["train", "demo", "--set", *texts])
        assert overrides_of(options.corpus, options.set) == ["corpora=[a, b]", "training.epochs=3"]


def test_a_closed_pipe_is_no_error(monkeypatch, capsys):
    def closed(*_, **__):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(experiment, "train", closed)
    out = sys.stdout
    assert main(["train", "demo"]) == 0
    monkeypatch.setattr(sys, "stdout", out)
    assert capsys.readouterr().err == ""


def test_audit_prints_counts_and_a_verdict(capsys):
    assert main(["audit", "demo", "--protocol", "deduplicated"]) == 0
    printed = capsys.readouterr().out
    assert "same speaker" in printed and "LEAKS: demo under deduplicated" in printed
    assert main(["audit", "demo"]) == 0
    assert "clean: demo under speaker" in capsys.readouterr().out


def test_ctrl_c_says_that_finished_folds_are_kept(monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "train", stop)
    assert main(["train", "demo"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_an_operating_system_error_is_named_with_its_file(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "/disk/file")

    monkeypatch.setattr(experiment, "train", full)
    assert main(["train", "demo"]) == 1
    assert "No space left on device (/disk/file)" in capsys.readouterr().err


def test_a_defect_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(experiment, "train", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["train", "demo"])


def test_the_module_is_the_command():
    assert run("results").returncode == 0


def test_a_read_only_disk_is_named(monkeypatch, capsys, tmp_path):
    mkdir = Path.mkdir

    def read_only(self, *arguments, **settings):
        if str(self).startswith(str(tmp_path / "runs")):
            raise OSError(30, "Read-only file system", str(self))
        return mkdir(self, *arguments, **settings)

    monkeypatch.setattr(Path, "mkdir", read_only)
    assert main(["train", "demo", "--set", "training.epochs=1", "--runs-dir", str(tmp_path / "runs")]) == 1
    error = capsys.readouterr().err
    assert "Read-only file system" in error and str(tmp_path / "runs") in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_command_that_is_asked_to_end_says_so_and_leaves_nothing(tmp_path):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom ser_lib import cli\nfrom ser_lib.common.files import replacing\n"
        "def slow(directory):\n"
        "    with replacing(Path(directory, 'table.csv')) as part:\n"
        "        part.write_text('half')\n        print('working', flush=True)\n        time.sleep(600)\n"
        "cli.OPTIONS['directory'] = ('directory', {'help': 'where'})\n"
        "cli.COMMANDS['slow'] = slow\nsys.exit(cli.main(['slow', sys.argv[1]]))\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, **pipes)
    assert process.stdout.readline() == "working\n"
    process.terminate()
    error = process.communicate(timeout=60)[1]
    assert (process.returncode, error) == (143, "\nser: stopped.\n") and list(tmp_path.iterdir()) == []


class TestTheRunAmongTheFiles:
    @pytest.mark.parametrize(
        ("files", "run"),
        [
            (["recordings", "voice.wav"], None),
            (["voice.wav", "other.wav"], None),
            (["missing.wav", "voice.wav"], None),
            (["deeper/missing.m4a", "voice.wav"], None),
            (["runs/demo", "voice.wav"], "runs/demo"),
            (["runs", "voice.wav"], "runs"),
            (["runs/mistyped", "voice.wav"], "runs/mistyped"),
            (["anna/model-on-the-hub", "voice.wav"], "anna/model-on-the-hub"),
            (["voice.wav"], None),
        ],
    )
    def test_is_the_first_argument_if_that_is_one(self, files, run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ("voice.wav", "other.wav", "recordings/a.wav", "runs/demo/speaker/0/recipe.yaml"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        assert run_and_files(None, files) == (run, files[1:] if run else files)

    def test_is_that_of_the_option(self):
        assert run_and_files("runs/demo", ["a", "b"]) == ("runs/demo", ["a", "b"])
