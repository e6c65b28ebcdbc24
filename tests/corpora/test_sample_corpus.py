"""The bundled corpus is complete and well formed, and its script makes it again bit for bit."""

import importlib.util
import platform
import re
import shutil
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_lib.common.errors import SerError
from ser_lib.corpora.clips import load_clips
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.protocols.near_duplicates import near_duplicate_groups

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "data" / "sample"
NAME = re.compile(r"03-01-(?P<emotion>\d\d)-01-(?P<statement>\d\d)-(?P<repetition>\d\d)-(?P<actor>\d\d)\.flac")
CLIPS = sorted(SAMPLE.rglob("*.flac"))


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_sample_corpus", ROOT / "scripts" / "make_sample_corpus.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def waveforms():
    return {clip: soundfile.read(clip, dtype="int16") for clip in CLIPS}


def active_level_db(samples):
    return 10 * np.log10(np.mean((samples[1600:-1600] / 32768) ** 2))


def test_every_voice_says_every_statement_with_every_emotion_in_two_takes_exactly_once():
    found = Counter(tuple(int(part) for part in NAME.fullmatch(clip.name).groups()) for clip in CLIPS)
    expected = Counter(product(range(1, 9), (1, 2), (1, 2), range(1, 9)))
    assert found == expected


def test_every_clip_lies_in_the_folder_of_its_voice():
    assert {(clip.parent.name, NAME.fullmatch(clip.name)["actor"]) for clip in CLIPS} == {
        (f"Actor_{actor:02d}", f"{actor:02d}") for actor in range(1, 9)
    }


def test_the_corpus_is_small_enough_for_a_repository_and_holds_nothing_else():
    files = [path for path in SAMPLE.rglob("*") if path.is_file()]
    assert set(files) == set(CLIPS)
    assert sum(path.stat().st_size for path in files) <= 4_500_000


def test_every_clip_is_16_khz_mono_16_bit_flac():
    for clip in CLIPS:
        info = soundfile.info(clip)
        assert (info.samplerate, info.channels, info.format, info.subtype) == (16000, 1, "FLAC", "PCM_16")


def test_no_clip_is_silent_or_clipped_and_levels_differ(waveforms):
    peaks = {clip: np.abs(samples.astype(int)).max() / 32768 for clip, (samples, _) in waveforms.items()}
    levels = [active_level_db(samples) for samples, _ in waveforms.values()]
    assert min(peaks.values()) > 0.05
    assert max(peaks.values()) < 0.95
    assert min(levels) > -40
    assert np.ptp(levels) > 10


def test_every_clip_is_a_short_sentence_between_short_silences(waveforms):
    for clip, (samples, rate) in waveforms.items():
        loud = np.flatnonzero(np.abs(samples.astype(int)) > 0.02 * np.abs(samples.astype(int)).max()) / rate
        seconds = len(samples) / rate
        assert 1.0 < seconds < 2.5, clip
        assert 0.05 < loud[0] < 0.2, clip
        assert 0.05 < seconds - loud[-1] < 0.3, clip


def test_no_two_clips_hold_the_same_audio(waveforms):
    assert len({samples.tobytes() for samples, _ in waveforms.values()}) == len(CLIPS)


def test_angry_clips_are_louder_and_shorter_than_sad_ones_in_every_voice(waveforms):
    for actor in range(1, 9):
        means = {}
        for emotion in ("angry", "sad"):
            code = EMOTIONS.index(emotion) + 1
            own = [waveforms[clip][0] for clip in CLIPS if clip.match(f"03-01-{code:02d}-*-{actor:02d}.flac")]
            means[emotion] = np.mean([(active_level_db(samples), len(samples)) for samples in own], axis=0)
        assert means["angry"][0] > means["sad"][0] + 5
        assert means["angry"][1] < means["sad"][1]


def test_the_script_names_the_emotions_in_the_shared_order(script):
    assert tuple(script.EMOTIONS) == EMOTIONS


def test_a_missing_espeak_ng_is_told_with_the_command_that_installs_it(script, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SerError, match="apt-get install espeak-ng"):
        script.find_espeak()


def test_the_script_makes_a_committed_voice_again_bit_for_bit(script, tmp_path, waveforms):
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    version, data = script.find_espeak()
    if version != script.ESPEAK_VERSION:
        pytest.skip(f"espeak-ng is {version}; the corpus was made with {script.ESPEAK_VERSION}")
    if platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip(f"the corpus was made on x86-64; {platform.machine()} may round differently")
    script.copy_espeak_data(data, tmp_path)
    script.make_voice(6, tmp_path / "made", tmp_path)
    made = sorted((tmp_path / "made").rglob("*.flac"))
    assert len(made) == 32
    for clip in made:
        samples, rate = soundfile.read(clip, dtype="int16")
        committed, committed_rate = waveforms[SAMPLE / clip.relative_to(tmp_path / "made")]
        assert rate == committed_rate
        np.testing.assert_array_equal(samples, committed, err_msg=clip.name)


def test_no_two_clips_are_nearly_the_same_recording():
    clips = load_clips("sample", progress=False)
    groups = near_duplicate_groups(clips, progress=False)
    alike = clips["clip_id"][groups.duplicated(keep=False).to_numpy()].tolist()
    assert alike == []
