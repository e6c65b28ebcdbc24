"""Altered copies are found, other utterances are not, in speech made here and in real speech."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr

from ser_lib.corpora import find_corpus
from ser_lib.protocols import near_duplicates
from ser_lib.protocols.near_duplicates import THRESHOLD, fingerprint, near_duplicate_groups, similarity

RATE = 16000


def utterance(voice_hz=120.0, sentence=0, take=0, seconds=1.5):
    """Speech-like: harmonics of a wandering pitch, formants that change with the syllables of the sentence."""
    text, performance = np.random.default_rng(sentence), np.random.default_rng(1000 * take + round(voice_hz))
    time = np.arange(round(seconds * RATE)) / RATE
    n_syllables = 6
    tempo = np.cumsum(performance.uniform(0.8, 1.2, n_syllables))
    place = np.interp(time, np.concatenate([[0], tempo]) * seconds / tempo[-1], np.arange(n_syllables + 1))
    syllable = np.minimum(place.astype(int), n_syllables - 1)
    loudness = np.sin(np.pi * (place % 1)) ** 2
    contour = performance.normal(0, 1.5, 8)
    pitch = voice_hz * 2 ** (np.interp(time, np.linspace(0, seconds, 8), contour) / 12)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = np.stack([text.uniform(300, 800, n_syllables), text.uniform(900, 2400, n_syllables)])[:, syllable]
    waveform = 0.003 * performance.standard_normal(len(time))
    for harmonic in range(1, 25):
        gain = np.exp(-(((harmonic * pitch - formants) / 200) ** 2)).sum(axis=0) + 0.05
        waveform += loudness * gain * np.sin(harmonic * phase + performance.uniform(0, 2 * np.pi)) / harmonic**0.5
    return (0.4 * waveform / np.abs(waveform).max()).astype(np.float32)


def write_clips(folder, waveforms: dict, altered=()) -> pd.DataFrame:
    """A table with what the fingerprint needs; `altered` holds (name, waveform, sampling rate, suffix)."""
    files = [(name, waveform, RATE, ".wav") for name, waveform in waveforms.items()]
    rows = []
    for name, waveform, rate, suffix in [*files, *altered]:
        path = folder / f"{name}{suffix}"
        soundfile.write(path, waveform, rate)
        rows.append({"clip_id": name, "path": str(path), "audio_hash": f"hash-of-{name}"})
    return pd.DataFrame(rows, index=range(10, 10 + len(rows)))


def together(clips: pd.DataFrame) -> list[set]:
    """The groups of more than one clip, by clip_id."""
    groups = near_duplicate_groups(clips, progress=False)
    assert groups.index.equals(clips.index)
    return [set(ids) for _, ids in clips["clip_id"].groupby(groups) if len(ids) > 1]


OTHERS = {
    "other sentence": utterance(sentence=1),
    "other take": utterance(take=1),
    "higher voice": utterance(voice_hz=140),
    "a semitone higher": utterance(voice_hz=120 * 2 ** (1 / 12)),
    "another speaker": utterance(voice_hz=210, sentence=2),
    "another, other sentence": utterance(voice_hz=210, sentence=3),
}
CUT = round(0.05 * RATE)


def at(rate, waveform):
    return soxr.resample(waveform, RATE, rate)


ALTERATIONS = {
    "8 kHz": lambda waveform: (at(8000, waveform), 8000, ".wav"),
    "22.05 kHz": lambda waveform: (at(22050, waveform), 22050, ".wav"),
    "44.1 kHz": lambda waveform: (at(44100, waveform), 44100, ".wav"),
    "-6 dB": lambda waveform: (0.5 * waveform, RATE, ".wav"),
    "+6 dB": lambda waveform: (2 * waveform, RATE, ".wav"),
    "inverted": lambda waveform: (-waveform, RATE, ".wav"),
    "start cut": lambda waveform: (waveform[CUT:], RATE, ".wav"),
    "end cut": lambda waveform: (waveform[:-CUT], RATE, ".wav"),
    "silence around": lambda waveform: (np.pad(waveform, (5 * CUT, 3 * CUT)), RATE, ".wav"),
    "stereo": lambda waveform: (np.stack([waveform, waveform], axis=1), RATE, ".wav"),
    "FLAC": lambda waveform: (waveform, RATE, ".flac"),
    "MP3": lambda waveform: (waveform, RATE, ".mp3"),
    "OGG": lambda waveform: (waveform, RATE, ".ogg"),
    "all at once": lambda waveform: (-0.5 * at(8000, waveform[CUT:-CUT]), 8000, ".mp3"),
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_copy_is_found_and_nothing_else_is(alteration, tmp_path):
    original = utterance()
    waveform, rate, suffix = ALTERATIONS[alteration](original)
    clips = write_clips(tmp_path, {"original": original, **OTHERS}, [("copy", waveform, rate, suffix)])
    assert together(clips) == [{"original", "copy"}]


def test_all_copies_of_one_clip_are_one_group_though_they_outnumber_its_neighbours(tmp_path):
    original = utterance()
    names = [name.replace(" ", "") for name in ALTERATIONS]
    copies = [(name, *alter(original)) for name, alter in zip(names, ALTERATIONS.values(), strict=True)]
    clips = write_clips(tmp_path, {"original": original, "other": utterance(sentence=1)}, copies)
    assert together(clips) == [{"original", *names}]


def test_exact_copies_do_not_hide_an_altered_one(tmp_path):
    original = utterance()
    clips = write_clips(tmp_path, {"original": original, **OTHERS}, [("copy", *ALTERATIONS["8 kHz"](original))])
    exact = pd.concat([clips[clips["clip_id"] == "original"]] * 20)
    exact["clip_id"] = [f"exact-{i}" for i in range(20)]
    assert together(pd.concat([exact, clips], ignore_index=True)) == [{"original", "copy", *exact["clip_id"]}]


def test_a_copy_at_another_speed_is_missed_as_the_module_says(tmp_path):
    original = utterance()
    faster = soxr.resample(original, RATE, RATE * 0.9)
    assert not together(write_clips(tmp_path, {"original": original, "faster": faster}))


def test_silence_is_like_nothing_and_one_clip_is_alone(tmp_path):
    silence = np.zeros(RATE, dtype=np.float32)
    clips = write_clips(tmp_path, {"silence": silence, "more silence": silence[: RATE // 2], "speech": utterance()})
    assert not together(clips)
    assert near_duplicate_groups(clips.iloc[:1], progress=False).tolist() == [0]
    assert near_duplicate_groups(clips.iloc[:0], progress=False).tolist() == []


def test_very_short_clips_are_compared_too(tmp_path):
    blip = utterance(seconds=0.05)
    assert together(write_clips(tmp_path, {"blip": blip, "half": 0.5 * blip, "speech": utterance()})) == [
        {"blip", "half"}
    ]


def test_a_copy_is_found_next_to_a_clip_of_minutes(tmp_path):
    long = np.tile(np.concatenate(list(OTHERS.values())), 8)  # 72 s, of which the fingerprint takes 20
    assert together(write_clips(tmp_path, {"long": long, "copy": 0.5 * long, "speech": utterance()})) == [
        {"long", "copy"}
    ]


def test_similarity_is_one_for_itself_whatever_gain_shift_and_sign():
    rng = np.random.default_rng(0)
    waveform = rng.standard_normal(3000)
    later = np.concatenate([np.zeros(700), -0.3 * waveform])
    other = rng.standard_normal(2500)
    likeness = similarity([waveform, waveform, waveform], [waveform, later, other])
    np.testing.assert_allclose(likeness[:2], 1, atol=0.01)
    assert likeness[2] < 0.2


def test_similarity_is_the_correlation_of_the_plain_sum_over_shifts():
    rng = np.random.default_rng(1)
    time = np.arange(400) / 2000
    first, second = (np.sin(2 * np.pi * 300 * time) + rng.standard_normal(400) for _ in range(2))
    # Zeros on both sides let the high-pass, which is taken over the padded waveform, do what it does there.
    spectra = [np.fft.rfft(np.pad(waveform, (0, 400))) for waveform in (first, second)]
    high = [np.fft.irfft(np.where(np.arange(401) * 2000 / 800 < 100, 0, spectrum)) for spectrum in spectra]
    sums = [np.dot(high[0], np.roll(high[1], shift)) for shift in range(800)]
    expected = np.abs(sums).max() / np.linalg.norm(high[0]) / np.linalg.norm(high[1])
    assert similarity([first], [second])[0] == pytest.approx(expected, abs=0.005)


def real_clips(corpus, pattern):
    paths = {path.name: path for path in sorted(find_corpus(corpus).rglob(pattern))}  # nested copies count once
    stems = [path.stem for path in paths.values()]
    return pd.DataFrame({"clip_id": stems, "path": [str(path) for path in paths.values()], "audio_hash": stems})


@pytest.mark.real
def test_repetitions_by_a_real_actor_are_not_copies(real):
    real("ravdess")
    assert not together(real_clips("ravdess", "03-01-05-*-23.wav"))  # holds the most alike pair of RAVDESS
    clips = real_clips("ravdess", "03-01-0[35]-*-07.wav")
    assert len(clips) == 16
    assert together(clips) == [{"03-01-03-01-02-01-07", "03-01-03-01-02-02-07"}]  # a known defect


@pytest.mark.real
def test_words_after_the_same_carrier_phrase_are_not_copies(real):
    real("tess")
    clips = real_clips("tess", "YAF_[dr]o*_sad.wav")
    more = real_clips("tess", "YAF_dea*_sad.wav")  # "room" and "dead" are the most alike pair of TESS
    assert not together(pd.concat([clips, more], ignore_index=True))


@pytest.mark.real
@pytest.mark.parametrize(("corpus", "pattern"), [("ravdess", "03-01-05-02-*-02.wav"), ("tess", "YAF_ba*_sad.wav")])
def test_altered_copies_of_real_speech_are_found(real, tmp_path, corpus, pattern):
    real(corpus)
    clips = real_clips(corpus, pattern)
    copies, expected = [], []
    for row in clips.itertuples():
        waveform, rate = soundfile.read(row.path, dtype="float32")
        cut = round(0.05 * rate)
        path = tmp_path / f"{row.clip_id}.mp3"
        soundfile.write(path, -0.5 * soxr.resample(waveform[cut:-cut], rate, 8000), 8000)
        copies.append({"clip_id": f"{row.clip_id} copy", "path": str(path), "audio_hash": f"{row.clip_id}-copy"})
        expected.append({row.clip_id, f"{row.clip_id} copy"})
        assert similarity([fingerprint(row.path)], [fingerprint(str(path))])[0] > THRESHOLD + 0.1
    assert together(pd.concat([clips, pd.DataFrame(copies)], ignore_index=True)) == expected


def test_neighbours_are_those_of_an_exhaustive_search():
    rng = np.random.default_rng(0)
    # Spectra as those of speech: few directions hold most of the variance.
    spectra = np.abs(rng.normal(size=(600, 6)) @ rng.normal(size=(6, 45)) + 0.3 * rng.normal(size=(600, 45)))
    spectra = (spectra / np.linalg.norm(spectra, axis=1, keepdims=True)).astype(np.float32)
    found = near_duplicates._neighbours(spectra)
    distances = np.linalg.norm(spectra[:, None] - spectra, axis=2)
    exact = np.argsort(distances, axis=1)[:, : near_duplicates.NEIGHBOURS + 1]
    shared = [len(set(a) & set(b)) for a, b in zip(found, exact, strict=True)]
    assert found.shape == exact.shape and np.mean(shared) > 0.98 * exact.shape[1]
    # The nearest, which a copy is, is never missed.
    assert all(nearest in row for nearest, row in zip(exact[:, 1], found, strict=True))


@pytest.mark.parametrize("n_clips", [2, 3, 8, 12])
def test_neighbours_of_few_clips_are_all_of_them(n_clips):
    found = near_duplicates._neighbours(np.random.default_rng(0).random((n_clips, 45), dtype=np.float32))
    assert all(len(set(row)) == min(n_clips, near_duplicates.NEIGHBOURS + 1) for row in found)
