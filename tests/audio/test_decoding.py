"""Every container is heard whole or refused with a reason: no length, a false length, damage, pipes, absurd headers."""

import os
import stat
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hostile_audio import encoded, mp3_without_length
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ser_lib.audio import decoding, reading
from ser_lib.common.errors import SerError

RATE = 16000
CONTAINERS = [
    *(("WAV", "PCM_16"), ("WAV", "GSM610"), ("WAV", "MS_ADPCM"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16")),
    *(("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("FLAC", "PCM_16")),
    *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("NIST", "PCM_16")),
]


def voice(seconds=2.0, rate=RATE, seed=0) -> np.ndarray:
    """Tones in noise, as loud as speech."""
    rng, time = np.random.default_rng(seed), np.arange(round(seconds * rate)) / rate
    return (0.2 * np.sin(2 * np.pi * 220 * time) * np.sin(3 * time) + 0.05 * rng.standard_normal(len(time))).astype(
        "f4"
    )


def written(path, content):
    path.write_bytes(content)
    return path


class TestLength:
    @pytest.mark.parametrize(("container", "subtype"), CONTAINERS)
    def test_whole_files_are_read_whole_and_halves_are_refused(self, container, subtype, tmp_path):
        rate = 8000 if subtype == "GSM610" else RATE
        content = encoded(voice(4.0, rate), rate, container, subtype)
        whole = reading.decode(written(tmp_path / "whole", content))
        assert len(whole[0]) / whole[1] == pytest.approx(4.0, abs=0.05) and whole[1] == rate
        for part in (0.3, 0.5, 0.9):
            half = written(tmp_path / "half", content[: int(part * len(content))])
            with pytest.raises(SerError, match="cut short") as caught:
                reading.decode(half)
            assert str(caught.value).startswith(f"{half}: ")

    @pytest.mark.parametrize("loud_first", [True, False])
    @pytest.mark.parametrize("rate", [16000, 44100])
    def test_an_mp3_without_a_length_is_read_to_its_end(self, rate, loud_first, tmp_path):
        samples = np.concatenate([voice(1.0, rate), np.zeros(4 * rate, np.float32)])
        samples = samples if loud_first else samples[::-1]
        path = mp3_without_length(tmp_path / "a.mp3", samples, rate)
        assert len(reading.decode(path)[0]) / rate == pytest.approx(5.0, abs=0.1)
        assert reading.seconds_of(path) == pytest.approx(5.0, abs=0.1)
        with reading.opened(path) as audio:
            assert audio.seconds is None

    @pytest.mark.parametrize("tag", [b"TAG" + bytes(125), b"APETAGEX" + struct.pack("<4I", 2000, 32, 0, 0) + bytes(8)])
    def test_a_tag_behind_such_an_mp3_is_no_audio(self, tag, tmp_path):
        path = mp3_without_length(tmp_path / "a.mp3", voice(), RATE)
        expected = reading.decode(path)[0]
        tag = tag if tag.startswith(b"TAG") else bytes(32) + tag
        path.write_bytes(path.read_bytes() + tag)
        np.testing.assert_array_equal(reading.decode(path)[0], expected)

    @pytest.mark.parametrize("stated", [0, 0xFF])
    def test_a_header_from_a_pipe_states_no_length(self, stated, tmp_path):
        samples = voice()
        for container, place, width in (
            ("WAV", lambda content: content.index(b"data") + 4, 4),
            ("RF64", lambda _: 28, 8),
            ("AU", lambda _: 8, 4),
            ("CAF", lambda content: content.index(b"data") + 4, 8),
            ("W64", lambda content: content.index(decoding.W64_DATA) + 16, 8),
            ("AIFF", lambda content: content.index(b"SSND") + 4, 4),
        ):
            content = encoded(samples, RATE, container, "PCM_16")
            start = place(content)
            unknown = content[:start] + bytes([stated]) * width + content[start + width :]
            read = reading.decode(written(tmp_path / container, unknown))[0]
            assert len(read) == pytest.approx(len(samples), abs=4), container

    def test_a_flac_from_a_pipe_states_no_length(self, tmp_path):
        content = bytearray(encoded(voice(), RATE, "FLAC", "PCM_16"))
        content[21] &= 0xF0
        content[22:26] = bytes(4)
        assert len(reading.decode(written(tmp_path / "a.flac", content))[0]) == 2 * RATE

    @pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
    def test_an_ogg_with_a_second_stream_behind_it_is_refused(self, subtype, tmp_path):
        streams = b"".join(encoded(voice(seed=seed), RATE, "OGG", subtype) for seed in (0, 1))
        with pytest.raises(SerError, match="several streams"):
            reading.decode(written(tmp_path / "a.ogg", streams))


class TestBounds:
    @pytest.mark.parametrize("rate", [1, 16, 999, 768001, 2**31 - 1])
    def test_of_the_rate(self, rate, tmp_path):
        content = bytearray(encoded(voice(), RATE, "WAV", "PCM_16"))
        content[24:28] = rate.to_bytes(4, "little")
        with pytest.raises(SerError, match=f"1000 to 768000 Hz, but it is {rate} Hz"):
            reading.decode(written(tmp_path / "a.wav", content))
        with pytest.raises(SerError, match="1000 to 768000 Hz"):
            reading.decode(reading.Recording(voice(), rate))

    def test_of_channels(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.zeros((1000, 65)), RATE)
        with pytest.raises(SerError, match="1 to 64 channels, but it has 65"):
            reading.decode(tmp_path / "a.wav")
        with pytest.raises(SerError, match=r"\(2, 48000\), which would be 48000 channels. Give its transpose, array.T"):
            reading.decode(reading.Recording(np.zeros((2, 48000)), RATE))

    def test_of_what_is_in_memory(self, tmp_path, monkeypatch):
        monkeypatch.setattr(reading, "MAX_IN_MEMORY", 50000)
        soundfile.write(tmp_path / "a.wav", np.stack([voice()] * 2, axis=1), RATE)
        with pytest.raises(SerError, match="samples in memory"):
            reading.decode(tmp_path / "a.wav")
        # In one channel it fits.
        assert len(reading.prepare(tmp_path / "a.wav")) == 2 * RATE

    def test_blocks_are_no_longer_for_many_channels(self, tmp_path, monkeypatch):
        monkeypatch.setattr(decoding, "MAX_BLOCK", 4000)
        soundfile.write(tmp_path / "a.wav", np.zeros((1000, 64)), RATE)
        with reading.opened(tmp_path / "a.wav") as audio:
            assert max(samples.size for samples in audio.blocks(30.0)) <= 4000

    def test_of_what_a_file_may_hold(self, tmp_path, monkeypatch):
        monkeypatch.setattr(decoding, "MAX_DECODED", 10000)
        soundfile.write(tmp_path / "a.flac", voice(), RATE)
        with pytest.raises(SerError, match="holds more than"), reading.opened(tmp_path / "a.flac") as audio:
            list(audio.blocks(0.1))

    def test_of_samples(self):
        with pytest.raises(SerError, match="exceed 1e"):
            reading.decode(reading.Recording(voice() * 1e20, RATE))
        with pytest.raises(SerError, match="NaN or infinite"):
            reading.decode(reading.Recording(voice().astype("f8") * 1e300, RATE))


class TestPlaces:
    @pytest.mark.skipif(sys.platform == "win32", reason="no named pipes in folders")
    def test_a_pipe_is_read_once(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        content = encoded(voice(), RATE, "WAV", "PCM_16")
        writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
        writer.start()
        assert len(reading.decode(tmp_path / "pipe")[0]) == 2 * RATE
        writer.join()
        # In a folder it would block for ever.
        (tmp_path / "pipe").rename(tmp_path / "pipe.wav")
        assert reading.files_in(tmp_path) == []

    def test_a_device_is_refused(self):
        if not Path("/dev/zero").exists():
            pytest.skip("no such device here")
        with pytest.raises(SerError, match="expected a file or a pipe"):
            reading.decode("/dev/zero")

    def test_a_name_in_another_encoding_is_one_line(self, tmp_path):
        path = tmp_path / os.fsdecode(b"caf\xe9.wav")
        try:
            path.write_bytes(encoded(voice(), RATE, "WAV", "PCM_16"))
        except OSError:
            pytest.skip("this file system takes UTF-8 names alone")
        with pytest.raises(SerError, match=r"caf\\udce9.wav: the name of the file is not UTF-8. Rename"):
            reading.decode(path)

    def test_a_folder_holds_what_can_be_read_by_name(self, tmp_path, caplog):
        for name in ("a.oga", "b.opus", "c.wave", "d.CAF", "e.mp4", "f.webm", "notes.txt", "cover.jpg", ".hidden"):
            (tmp_path / name).touch()
        assert [file.name[0] for file in reading.expand(tmp_path)] == list("abcdef")
        assert "2 files passed over" in caplog.text and "notes.txt" in caplog.text and ".hidden" not in caplog.text


MP4 = b"\x00\x00\x00\x18ftypM4A " + bytes(100)


@pytest.mark.skipif(sys.platform == "win32", reason="a program in place of ffmpeg is a shell script")
class TestFfmpeg:
    @pytest.fixture
    def program(self, tmp_path, monkeypatch):
        """Put a script in place of ffmpeg."""

        def make(script):
            path = tmp_path / "bin" / "ffmpeg"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
            monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
            return path

        return make

    def test_decodes_what_libsndfile_cannot(self, program, tmp_path):
        wav = written(tmp_path / "answer.wav", encoded(voice(), RATE, "WAV", "FLOAT"))
        program(f'echo "$@" > {tmp_path}/arguments; cat {wav}')
        samples, rate = reading.decode(written(tmp_path / "-a.m4a", MP4))
        np.testing.assert_array_equal(samples[:, 0], voice())
        # Neither a playlist nor a name that begins with a dash has any effect.
        arguments = (tmp_path / "arguments").read_text()
        assert f"-protocol_whitelist file -f mov -i file:{tmp_path}/-a.m4a" in arguments

    @pytest.mark.parametrize(
        "head", [MP4, b"\x1a\x45\xdf\xa3" + bytes(99), b"#!AMR\n" + bytes(99), b"\xff\xf1" + bytes(9)]
    )
    def test_where_it_is_missing_the_error_says_how_to_convert(self, head, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SerError, match="is read by ffmpeg, which is not installed. Install ffmpeg, or convert"):
            reading.decode(written(tmp_path / "a.mp4", head))

    @pytest.mark.parametrize("script", ["echo moov atom not found >&2; exit 1", "echo File ended prematurely >&2"])
    def test_what_it_complains_about_is_refused(self, script, program, tmp_path):
        program(script)
        with pytest.raises(SerError, match="ffmpeg says: (moov atom|File ended)"):
            reading.decode(written(tmp_path / "a.mp4", MP4))

    def test_that_does_not_end_is_ended(self, program, tmp_path, monkeypatch):
        program("exec sleep 60")
        monkeypatch.setattr(decoding, "FFMPEG_SECONDS", 0.2)
        with pytest.raises(SerError, match=r"more than 0.2 s"):
            reading.decode(written(tmp_path / "a.mp4", MP4))


class TestSilence:
    def test_of_what_a_model_hears(self, tmp_path):
        one = voice()
        for right, reason in ((-one, "the mean of its channels"), (one, None), (0 * one, None)):
            soundfile.write(tmp_path / "a.wav", np.stack([one, right], axis=1), RATE)
            if reason is None:
                assert reading.decode_audible(tmp_path / "a.wav").sampling_rate == RATE
            else:
                with pytest.raises(SerError, match=f"silent, {reason}.*there is no speech"):
                    reading.decode_audible(tmp_path / "a.wav")

    @pytest.mark.parametrize("seconds", [0.05, 4, 31])
    @pytest.mark.parametrize("offset", [0, 1000])
    def test_dither_is_silence_at_any_length_and_offset(self, seconds, offset, tmp_path):
        dither = np.random.default_rng(0).integers(-1, 2, round(RATE * seconds)) + offset
        soundfile.write(tmp_path / "a.wav", dither.astype(np.int16), RATE)
        with pytest.raises(SerError, match="no part is louder than -9"):
            reading.decode_audible(tmp_path / "a.wav")


def attempt(path) -> str:
    """Decode a file: "" if it is heard, or the reason; anything but a SerError is a fault."""
    try:
        samples, rate = reading.decode(path)
    except SerError as error:
        return str(error)
    assert np.isfinite(samples).all() and samples.ndim == 2 and 1000 <= rate <= 768000
    return ""


class TestAttack:
    @pytest.mark.parametrize(("container", "subtype"), CONTAINERS)
    def test_damaged_files_are_heard_or_refused(self, container, subtype, tmp_path):
        rate = 8000 if subtype == "GSM610" else RATE
        content = encoded(voice(0.5, rate), rate, container, subtype)
        path = tmp_path / "a"

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.data())
        def damaged(data):
            changed = bytearray(content)
            for _ in range(data.draw(st.integers(1, 4))):
                # Headers are more fragile than audio.
                place = data.draw(st.integers(0, min(100, len(changed) - 1)) | st.integers(0, len(changed) - 1))
                changed[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
            attempt(written(path, bytes(changed[: data.draw(st.just(len(changed)) | st.integers(0, len(changed)))])))

        damaged()

    def test_any_bytes_are_heard_or_refused(self, tmp_path):
        heads = [first + b"\0\0\0\0"[: 8 - len(first)] + ninth for first, ninth in decoding.MAGIC]
        heads += [b"", b"\xff\xfb\x90\x64", b"RIFF\xff\xff\xff\xffWAVEdata", b"caff\0\1\0\0desc" + b"\xff" * 8]

        @settings(max_examples=150, deadline=None)
        @given(st.sampled_from(heads), st.binary(max_size=300))
        def read(head, tail):
            attempt(written(tmp_path / "a", head + tail))

        read()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(name=st.text(min_size=1, max_size=40))
    def test_any_name_is_heard_or_refused(self, name, tmp_path):
        attempt(str(tmp_path / name))
        attempt(name)
