"""Two processes of torch.distributed, with gloo on the CPU, embed and fine-tune as one process does."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import tone_clips
from test_finetuning import problem, tuned
from tiny import tiny_checkpoint

from ser_lib.models import audio_classifier
from ser_lib.models.embeddings import embed
from ser_lib.models.settings import Input

KINDS = ("wav2vec2", "whisper")
# 13 clips to train, in batches of 4: the last holds a single clip, and one process has none of it.
TRAINING = {"epochs": 2, "class_weights": True, "clip_norm": 1.0}
PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {tests!r} + "/models"]
import numpy as np, pandas as pd
import test_two_processes as one
from ser_lib.common import distributed
from ser_lib.models import audio_classifier, embeddings

folder, rank = Path({folder!r}), distributed.rank()
computed, join = [], embeddings._join
embeddings._join = lambda *parts: computed.append(1) or join(*parts)
np.save(folder / f"embedded-{{rank}}.npy", one.embedded(folder, pd.read_pickle(folder / "clips.pkl")))
print("computed " + str(len(computed)))
for kind in one.KINDS:
    model, extractor, history = one.fine_tuned(folder, kind)
    answers = audio_classifier.probabilities(model, extractor, one.problem(seed=1)[0])
    np.save(folder / f"{{kind}}-{{rank}}.npy", answers)
    history.to_csv(folder / f"{{kind}}-{{rank}}.csv", index=False)
"""


def embedded(folder: Path, clips: pd.DataFrame) -> np.ndarray:
    audio = {"sampling_rate": 16000, "normalise": "peak"}
    encoder = str(folder / "encoders" / "wav2vec2")
    read = Input(encoder=encoder, layers="all", pooling="mean+std", audio=audio, precision="float32")
    return embed(clips, read, device="cpu", progress=False)


def fine_tuned(folder: Path, kind: str, work: Path | None = None):
    return tuned(work or folder / kind, kind, problem(22), checkpoint=folder / "encoders" / kind, **TRAINING)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder that two processes have written into, the clips, and what the processes printed."""
    folder = tmp_path_factory.mktemp("two")
    for kind in KINDS:
        tiny_checkpoint(folder / "encoders" / kind, kind, dropout=0.0)
    clips = tone_clips(folder / "tones", speakers=2, takes=2, seconds=0.7)
    clips.to_pickle(folder / "clips.pkl")
    program = folder / "program.py"
    program.write_text(PROGRAM.format(tests=str(Path(__file__).parents[1]), folder=str(folder)))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(program)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SER_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run([sys.executable, *launch], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, clips, done.stdout


def test_they_share_the_clips_to_embed_and_both_have_all_of_them(together):
    folder, clips, printed = together
    assert printed.count(f"computed {len(clips) // 2}") == 2
    here = embedded(folder, clips)
    for rank in (0, 1):
        np.testing.assert_allclose(np.load(folder / f"embedded-{rank}.npy"), here, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_they_train_as_one_does(together, tmp_path, kind):
    folder, _, _ = together
    model, feature_extractor, history = fine_tuned(folder, kind, tmp_path)
    expected = audio_classifier.probabilities(model, feature_extractor, problem(seed=1)[0])
    for rank in (0, 1):
        np.testing.assert_allclose(np.load(folder / f"{kind}-{rank}.npy"), expected, atol=1e-3)
        of_rank = pd.read_csv(folder / f"{kind}-{rank}.csv")
        np.testing.assert_allclose(of_rank.to_numpy(float), history.to_numpy(float), atol=1e-3)
