"""Every audio file is read rightly or refused with a reason; waveforms keep their promises of length and level."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ser_lib.audio import reading
from ser_lib.common.errors import SerError

RATE = 16000


def noise(n_samples=8000, n_channels=1, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n_samples, n_channels)).astype(np.float32)


def tone(hertz, sampling_rate, seconds=1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * sampling_rate)) / sampling_rate)).astype("f4")


def loudest_hertz(waveform, sampling_rate) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return np.fft.rfftfreq(len(waveform), 1 / sampling_rate)[spectrum.argmax()]


# What can be read


@pytest.mark.parametrize(
    ("suffix", "subtype", "error"),
    [
        ("wav", "PCM_16", 2**-15),
        ("wav", "PCM_24", 2**-23),
        ("wav", "PCM_32", 2**-24),
        ("wav", "FLOAT", 0),
        ("flac", "PCM_16", 2**-15),
        ("flac", "PCM_24", 2**-23),
        ("ogg", "VORBIS", 0.2),
        ("mp3", "MPEG_LAYER_III", 0.2),
    ],
)
def test_each_format_comes_back_with_its_length_rate_and_samples(tmp_path, suffix, subtype, error):
    written = tone(440, 22050)[:, None] * [1.0, 0.5]
    soundfile.write(tmp_path / f"a.{suffix}", written, 22050, subtype=subtype)
    samples, sampling_rate = reading.decode(tmp_path / f"a.{suffix}")
    assert sampling_rate == 22050
    assert samples.dtype == np.float32 and samples.shape == written.shape
    assert np.abs(samples - written).max() <= error


@pytest.mark.parametrize("name", ["A.WAV", "<b>bold & 100%.wav", "Überraschung 驚き.flac", "no suffix"])
def test_odd_names_are_no_obstacle(tmp_path, name):
    written = noise()
    soundfile.write(tmp_path / name, written, RATE, format="FLAC" if "flac" in name else "WAV")
    samples, _ = reading.decode(str(tmp_path / name))
    assert np.abs(samples - written).max() <= 2**-15


def test_float_samples_beyond_one_are_kept(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise() * 100, RATE, subtype="FLOAT")
    assert np.array_equal(reading.decode(tmp_path / "a.wav")[0], noise() * 100)
    assert np.abs(reading.prepare(tmp_path / "a.wav", normalise="peak")).max() == 1


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_from_a_pipe_states_no_size_and_is_read_whole(tmp_path, size):
    soundfile.write(tmp_path / "a.wav", noise(), RATE)
    whole = (tmp_path / "a.wav").read_bytes()
    assert whole[36:40] == b"data"
    (tmp_path / "pipe.wav").write_bytes(whole[:40] + size.to_bytes(4, "little") + whole[44:])
    assert np.array_equal(reading.decode(tmp_path / "pipe.wav")[0], reading.decode(tmp_path / "a.wav")[0])


def test_chunks_before_and_after_the_audio_are_passed_over(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(), RATE)
    whole = (tmp_path / "a.wav").read_bytes()
    odd = b"note" + (3).to_bytes(4, "little") + b"abc\0"  # chunks are padded to an even length
    (tmp_path / "b.wav").write_bytes(whole[:36] + odd + whole[36:] + odd)
    assert np.array_equal(reading.decode(tmp_path / "b.wav")[0], reading.decode(tmp_path / "a.wav")[0])


# What is refused


def refused(path, match):
    with pytest.raises(SerError, match=match) as caught:
        reading.decode(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "a.wav", "No such file")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.wav").touch()
    refused(tmp_path / "a.wav", "empty")


def test_a_folder_with_an_audio_name_is_refused(tmp_path):
    (tmp_path / "a.wav").mkdir()
    refused(tmp_path / "a.wav", "cannot be read|empty")


def test_a_file_without_the_right_to_read_it_is_refused(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", noise(), RATE)

    def denied(*args, **kwargs):  # root may read everything, so the right cannot just be taken away
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", denied)
    refused(tmp_path / "a.wav", "Permission denied")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "raw"])
def test_text_under_an_audio_name_is_refused(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").write_text("These are words, not sounds.\n" * 40)
    refused(tmp_path / f"a.{suffix}", "cannot be decoded")


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])  # an OGG stream states no length
@pytest.mark.parametrize("part", [0.0005, 0.01, 0.3, 0.7])
def test_a_file_cut_short_is_refused(tmp_path, suffix, part):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(30000), RATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    refused(path, "cut short")


def test_a_wav_that_lacks_one_byte_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(), RATE)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-1])
    refused(tmp_path / "a.wav", "15999 of 16000 bytes")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value):
    samples = noise()
    samples[100] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    refused(tmp_path / "a.wav", "NaN")


@pytest.mark.parametrize("n_samples", [0, 1, 319])
def test_a_clip_shorter_than_a_frame_is_refused(tmp_path, n_samples):
    soundfile.write(tmp_path / "a.wav", noise(n_samples), RATE)
    refused(tmp_path / "a.wav", f"holds {n_samples} samples")


def test_the_shortest_clip_that_is_allowed_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(320), RATE)
    assert reading.decode(tmp_path / "a.wav")[0].shape == (320, 1)


def test_silence_is_refused_where_an_answer_is_asked_for(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), RATE)
    with pytest.raises(SerError, match=r"a\.wav: silent, every sample is 0"):
        reading.decode_audible(tmp_path / "a.wav")
    recording = reading.decode_audible(reading.Recording(noise()[:, 0], RATE, "mine"))
    assert np.array_equal(recording.samples, noise()) and recording[1:] == (RATE, "mine")


# From samples to a waveform


@pytest.mark.parametrize(("own_rate", "n_channels"), [(8000, 2), (16000, 1), (24414, 1), (44100, 2), (96000, 1)])
def test_any_rate_and_channels_become_one_channel_at_the_rate_asked_for(tmp_path, own_rate, n_channels):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(440, own_rate)] * n_channels, axis=1), own_rate)
    waveform = reading.prepare(tmp_path / "a.wav", sampling_rate=RATE)
    assert waveform.dtype == np.float32
    assert len(waveform) == RATE
    assert loudest_hertz(waveform, RATE) == pytest.approx(440, abs=1)
    assert np.abs(waveform[1000:-1000]).max() == pytest.approx(0.5, abs=0.01)


def test_what_the_new_rate_cannot_hold_is_filtered_out_and_not_folded_back():
    above = tone(11000, 48000)
    assert np.abs(reading.resample(above, 48000, RATE)[500:-500]).max() < 0.001


def test_channels_are_averaged_without_overflow():
    big = np.full((10, 2), 3e38, np.float32)
    assert np.array_equal(reading.mix_down(big), big[:, 0])
    assert reading.mix_down(np.float32([[1, 0], [0, -1]])).tolist() == [0.5, -0.5]


rates = st.sampled_from([8000, 11025, 16000, 22050, 24414, 44100, 48000, 96000])


@given(rates, rates, st.integers(100, 3000))
def test_resampling_keeps_the_duration(from_rate, to_rate, n_samples):
    resampled = reading.resample(noise(n_samples)[:, 0], from_rate, to_rate)
    assert resampled.dtype == np.float32
    assert abs(len(resampled) - n_samples * to_rate / from_rate) <= 1


waveforms = arrays.arrays(
    np.float32, st.integers(1, 200), elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_nan=False)
)


@given(waveforms)
def test_the_peak_becomes_one_unless_the_clip_is_silent(waveform):
    scaled = reading.scale(waveform, "peak")
    assert scaled.dtype == np.float32 and scaled.shape == waveform.shape
    assert np.abs(scaled).max() == (1 if waveform.any() else 0)
    assert not (np.sign(scaled) * np.sign(waveform) < 0).any()


@given(waveforms)
def test_the_rms_becomes_its_target_unless_the_clip_is_silent(waveform):
    scaled = reading.scale(waveform, "rms")
    assert scaled.dtype == np.float32
    level = np.sqrt(np.square(scaled.astype(float)).mean())
    assert level == pytest.approx(reading.RMS_TARGET if waveform.any() else 0, rel=1e-3)


@given(waveforms, st.integers(1, 400), st.sampled_from(["start", "centre"]))
def test_fit_gives_exactly_the_samples_asked_for(waveform, n_samples, crop):
    fitted = reading.fit(waveform, n_samples, crop)
    assert fitted.shape == (n_samples,) and fitted.dtype == np.float32
    if len(waveform) >= n_samples:  # an unbroken piece of it
        starts = range(len(waveform) - n_samples + 1)
        assert any(np.array_equal(fitted, waveform[start : start + n_samples]) for start in starts)
    else:
        assert np.array_equal(fitted[: len(waveform)], waveform) and not fitted[len(waveform) :].any()


def test_crops_come_from_where_they_say():
    ramp = np.arange(10, dtype=np.float32)
    assert reading.fit(ramp, 4).tolist() == [0, 1, 2, 3]
    assert reading.fit(ramp, 4, "centre").tolist() == [3, 4, 5, 6]
    assert reading.fit(ramp, 20, pad=False).tolist() == ramp.tolist()


# librosa compiles when it is first called.
@settings(deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.integers(1, 3000), st.sampled_from([0.0, 1e-4, 0.003, 0.05, 0.5])), min_size=1, max_size=6
    ),
    below_db=st.sampled_from([10.0, 30.0, 60.0]),
    seed=st.integers(0, 9),
)
def test_silence_is_trimmed_as_librosa_does(parts, below_db, seed):
    import librosa

    rng = np.random.default_rng(seed)
    waveform = np.concatenate([loudness * rng.standard_normal(length) for length, loudness in parts]).astype(np.float32)
    np.testing.assert_array_equal(reading.trim(waveform, below_db), librosa.effects.trim(waveform, top_db=below_db)[0])


def test_silence_is_trimmed_from_both_ends_and_not_from_the_middle():
    silence = np.zeros(RATE, np.float32)
    speech = tone(300, RATE)
    waveform = np.concatenate([silence, speech, silence, speech, silence])
    trimmed = reading.prepare(reading.Recording(waveform, RATE), trim_below_db=30)
    assert 3 * RATE <= len(trimmed) <= 3 * RATE + 4096


@pytest.mark.parametrize("to", ["peak", "rms"])
def test_a_silent_clip_survives_as_zeros(tmp_path, to):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), RATE)
    waveform = reading.prepare(tmp_path / "a.wav", trim_below_db=30, normalise=to, max_seconds=1.0, pad=True)
    assert waveform.shape == (16000,) and not waveform.any()


def test_the_steps_come_in_their_order(tmp_path):
    quiet_start = np.concatenate([np.zeros(RATE), tone(300, RATE) * np.linspace(1, 0.25, RATE)])
    soundfile.write(tmp_path / "a.wav", quiet_start, RATE, subtype="FLOAT")
    waveform = reading.prepare(
        tmp_path / "a.wav", trim_below_db=30, offset_seconds=0.5, normalise="peak", max_seconds=0.25
    )
    assert len(waveform) == RATE // 4
    # Trimmed first: the offset then skips speech. Normalised last: what is left peaks at 1.
    assert np.abs(waveform).max() == 1
    assert np.abs(waveform[-1000:]).max() < 0.9


def test_an_offset_beyond_the_end_leaves_the_shortest_clip(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(), RATE)
    assert len(reading.prepare(tmp_path / "a.wav", offset_seconds=0.4)) == 1600
    assert len(reading.prepare(tmp_path / "a.wav", offset_seconds=60)) == reading.MIN_SECONDS * RATE


def test_without_options_a_clip_is_as_loaded_without_its_mean(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(), RATE)
    loaded = reading.decode(tmp_path / "a.wav")[0][:, 0]
    assert np.allclose(reading.prepare(tmp_path / "a.wav"), loaded - loaded.mean(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("offset", [0.001, 0.01, 0.1, -0.3])
def test_a_constant_offset_changes_nothing_that_is_measured_after_it(offset):
    # Half a second of silence on both sides, which trimming must find.
    waveform = np.concatenate([np.zeros(4000), 0.2 * tone(220, RATE), np.zeros(4000)]).astype(np.float32)
    settings = {"trim_below_db": 30, "normalise": "peak", "sampling_rate": RATE}
    clean, shifted = (
        reading.prepare(reading.Recording(w, RATE), **settings) for w in (waveform, waveform + np.float32(offset))
    )
    assert len(clean) < len(waveform) - 4000
    assert len(shifted) == len(clean)
    assert np.allclose(shifted, clean, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"trim_below_db": -30}, "above 0"),
        ({"trim_below_db": 0}, "above 0"),
        ({"offset_seconds": -1}, "not be negative"),
        ({"normalise": "loud"}, '"peak" or "rms"'),
        ({"max_seconds": 0}, "at least one sample"),
        ({"max_seconds": 0.1, "crop": "end"}, '"start" or "centre"'),
    ],
)
def test_options_out_of_range_are_refused_with_what_is_allowed(tmp_path, options, match):
    soundfile.write(tmp_path / "a.wav", noise(), RATE)
    with pytest.raises(SerError, match=match):
        reading.prepare(tmp_path / "a.wav", **options)
