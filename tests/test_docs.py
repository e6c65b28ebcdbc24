"""README and docs: their commands run, and their links lead somewhere.

The commands of all pages are executed in a copy of the project, in the order of `PAGES`, as one reader would type them: a
later page uses the runs of an earlier one. CONTRIBUTING's are executed in a second copy, to which its diffs are applied.
Tones stand in for the corpora, tiny random encoders for the pretrained ones.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import tiny_checkpoint

from ser_lib.cli import main
from ser_lib.corpora import CORPORA
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.protocols.splits import PROTOCOLS
from ser_lib.recipes import load_recipe, recipe_names

ROOT = Path(__file__).parents[1]
PAGES = [
    *("README.md", "data/README.md", "docs/encoders.md", "docs/protocols.md", "docs/numbers.md", "docs/your-data.md"),
    *(
        "docs/deploy.md",
        "docs/voice.md",
        "docs/claims.md",
        "docs/atlas.md",
        "docs/audit-action.md",
        "docs/reliability.md",
        "CONTRIBUTING.md",
    ),
]
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}

# Commands that no test can execute, with the reason. Those of `make` are looked up in the Makefile all the same.
NOT_EXECUTED = {
    r"ser atlas": "needs the published lists, or executes a notebook; tests/reports/test_study_pages.py does",
    r"ser voice": "trains on all corpora, or executes a notebook; tests/reports/test_study_pages.py does",
    r"make (report|test|lint|format|audit|notebooks|sample)$": "executed by .ci/run, or by a test of its own",
    r"git clone ": "needs the network",
    r"source \.venv/bin/activate$": "the tests run in an environment already",
    r"apt-get ": "installs a program",
    r"hf upload ": "needs an account of the Hub",
    r"make address": "tests/test_project.py does, in a copy of the whole repository",
    r"accelerate launch ": "starts several processes; tests/recipes/test_encoder_recipes.py does",
    r"python scripts/install\.py": "installs packages",
    r"pytest": "the tests themselves",
}
# Settings that shorten a training which would take long even on tones.
SHORTER = {"--variant as-run": " --set training.epochs=1"}


def code_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXTS[page], re.M | re.S)


def commands(block: str) -> list[str]:
    """The commands of a bash block, without comments."""
    lines = [re.sub(r"\s+# .*$", "", line).strip() for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def steps(page: str) -> list[dict]:
    """All that is to be executed of a page, in its order."""
    found = []
    for language, block in re.findall(r"^```(bash|python|yaml)\n(.*?)^```$", TEXTS[page], re.M | re.S):
        if language != "bash":
            found.append({"kind": language, "text": block})
            continue
        for command in commands(block):
            if not any(re.match(pattern, command) for pattern in NOT_EXECUTED):
                word = command.split()[0]
                command += "".join(more for part, more in SHORTER.items() if part in command)
                found.append({"kind": word if word in ("ser", "make") else "bash", "text": command})
    return found


def tone(path: Path, pitch: float, seconds: float = 0.3, seed: int = 0) -> None:
    time = np.arange(int(seconds * 16000)) / 16000
    noise = np.random.default_rng(seed).standard_normal(len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * time) + 0.02 * noise, 16000)


def make_corpora(folder: Path) -> None:
    """A few short tones under the file names of each corpus."""
    names = [
        f"{corpus}/03-01-{emotion:02d}-01-01-01-{speaker:02d}.wav"
        for corpus in ("ravdess", "sample")
        for speaker in range(1, 7)
        for emotion in range(1, 9)
    ]
    words = ("neutral", "happy", "sad", "angry", "fear", "disgust", "ps")
    names += [
        f"tess/{speaker}_{word}_{emotion}.wav"
        for speaker in ("OAF", "YAF")
        for word in ("back", "bean", "bar")
        for emotion in words
    ]
    names += [
        f"savee/{speaker}_{code}{take:02d}.wav"
        for speaker in ("DC", "JE", "JK", "KL")
        for code in ("n", "h", "sa", "a", "f", "d", "su")
        for take in (1, 2)
    ]
    names += [
        f"crema_d/{speaker}_{sentence}_{code}_XX.wav"
        for speaker in (1001, 1002, 1003, 1004)
        for sentence in ("DFA", "IEO")
        for code in ("NEU", "HAP", "SAD", "ANG", "FEA", "DIS")
    ]
    names += [
        f"mine/{speaker}_{sentence}_{word}.wav"
        for speaker in ("anna", "bert")
        for sentence in ("01", "02")
        for word in ("happy", "sadness")
    ]
    for seed, name in enumerate(names):
        tone(folder / name, 150 + 20 * (seed % 8), seed=seed)


def make_hub(folder: Path) -> None:
    """The Hub's cache as a download leaves it, with a tiny random encoder under the name of each pretrained one."""
    kinds = {"openai/whisper-base": "whisper", "facebook/wav2vec2-base": "wav2vec2"}
    revisions = {
        recipe.input.encoder: recipe.input.revision
        for recipe in map(load_recipe, ("ravdess-whisper-logistic", "ravdess-wav2vec2-frozen-mlp"))
    }
    for name, kind in kinds.items():
        repository = folder / "hub" / f"models--{name.replace('/', '--')}"
        layers = {"encoder_layers" if kind == "whisper" else "num_hidden_layers": 6}
        tiny_checkpoint(repository / "snapshots" / revisions[name], kind, **layers)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(revisions[name])


def make_own_files(folder: Path) -> None:
    """The recordings and the split that the pages call the reader's own."""
    for seed, name in enumerate(
        ("voice.wav", "meeting.mp3", "new.wav", "interviews/first.wav", "interviews/second.wav")
    ):
        tone(folder / name, 200 + 30 * seed, seconds=3, seed=seed)
    # The model of the package refuses tones, which are no speech.
    spoken = sorted((ROOT / "data" / "sample").rglob("*.flac"))
    for place, clip in zip(("voice.wav", *(f"me/{number}.wav" for number in range(1, 9))), spoken, strict=False):
        (folder / place).parent.mkdir(exist_ok=True)
        shutil.copyfile(clip, folder / place)
    rows = []
    for number, speaker in enumerate(("anna", "ben", "cleo", "dan")):
        for position, emotion in enumerate(("neutral", "happy", "sad")):
            path = folder / "recordings" / speaker / f"{emotion}-01.wav"
            tone(path, 150 + 80 * position + 7 * number, seed=10 * number + position)
            rows.append(f"{path.relative_to(folder)},{emotion},{speaker}")
    (folder / "my.csv").write_text("\n".join(["path,emotion,speaker", *rows]))
    for seed, subset in enumerate(("train", "train", "validation", "test")):
        tone(folder / "my-split" / subset / f"{seed}.wav", 220, seed=seed)
    rows = [
        f"my-split/{subset}/{seed}.wav,{subset}" for seed, subset in enumerate(("train", "train", "validation", "test"))
    ]
    (folder / "my-split.csv").write_text("\n".join(["path,subset", *rows]))


def execute(base: Path, copy: Path, pages: list[str]) -> dict[str, list[dict]]:
    """Execute every step of some pages in a copy of the project; return the steps with their outcomes by page."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    for name in listed:
        if (
            name.startswith(("ser_lib/", "notebooks/", "reports/results.csv", "reports/predictions/demo."))
            or "/" not in name
        ):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    make_own_files(copy)
    for page in pages:
        for diff in code_blocks(page, "diff"):
            subprocess.run(["git", "apply", "-"], cwd=copy, input=diff, text=True, check=True)
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "SER_DATA_DIR": str(base / "corpora"),
        "SER_CACHE_DIR": str(base / "cache"),
        "HF_HOME": str(base / "hub"),
        "HF_HUB_OFFLINE": "1",
        "SER_SPEAKERS_DIR": str(base / "speakers"),
        "OMP_NUM_THREADS": "1",
        "LOKY_MAX_CPU_COUNT": "1",
    }
    listed_steps = {page: steps(page) for page in pages}
    (copy / "steps.json").write_text(json.dumps(sum(listed_steps.values(), [])))
    runner = [sys.executable, ROOT / "tests" / "docs_runner.py", "steps.json", "outcomes.json"]
    subprocess.run(runner, cwd=copy, env=environment, check=True)
    done = iter(json.loads((copy / "outcomes.json").read_text()))
    return {page: [step | next(done) for step in page_steps] for page, page_steps in listed_steps.items()}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    base = tmp_path_factory.mktemp("docs")
    make_corpora(base / "corpora")
    make_hub(base / "hub")
    readers = execute(base, base / "project", [page for page in PAGES if page != "CONTRIBUTING.md"])
    return readers | execute(base, base / "changed", ["CONTRIBUTING.md"])


@pytest.mark.parametrize("page", [page for page in PAGES if steps(page)])
def test_commands_and_examples_run(page, outcomes):
    for step in outcomes[page]:
        print(step["seconds"], step["kind"], step["text"].splitlines()[0])
    failed = [f"{step['text']}\n{step['output']}\n{step['error']}" for step in outcomes[page] if step["error"]]
    assert not failed, "\n\n".join(failed)


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", TEXTS[page], re.M)) <= targets


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", TEXTS[page]):
        assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith(("docs/", "data/"))])
def test_a_page_opens_with_the_question_that_it_answers(page):
    assert re.match(r"# .+\?\n", TEXTS[page])


def test_the_readme_fits_on_150_lines():
    assert TEXTS["README.md"].count("\n") <= 150


def test_a_page_without_known_markers_is_refused(tmp_path, capsys):
    page = tmp_path / "page.md"
    for text in ("no marker", "<!-- nonsense: begin -->\n<!-- nonsense: end -->"):
        page.write_text(text)
        assert main(["results", "--readme", str(page)]) == 1
        assert "claims-summary" in capsys.readouterr().err and page.read_text() == text


def test_the_data_card_agrees_with_the_corpora():
    for corpus in CORPORA.values():
        (row,) = re.findall(rf"^\| `{corpus.name}` \|.*$", TEXTS["data/README.md"], re.M)
        assert f"| {corpus.clips} | {corpus.speakers} " in row
        assert corpus.licence.split(",")[0] in row and (corpus.handle or "") in row


def test_readme_and_docs_name_every_emotion_recipe_protocol_and_corpus():
    text = "\n".join(TEXTS.values())
    assert all(emotion in TEXTS["README.md"] for emotion in EMOTIONS)
    for name in [*recipe_names(), *PROTOCOLS, *CORPORA]:
        assert f"`{name}`" in text, name
