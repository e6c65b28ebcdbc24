"""What a model hears of a recording: the whole as one clip, or windows, and never a part of it without a word."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_tables import RATE, babble

from ser_lib.audio import windows
from ser_lib.audio.reading import Recording
from ser_lib.audio.windows import Pieces
from ser_lib.common.errors import SerError
from ser_lib.models.settings import Audio


def heard(samples, as_clip=False, rate=RATE, **audio):
    """The pieces of a recording, and what is said of them."""
    pieces = Pieces(Recording(samples, rate, "it"), Audio(**audio).model_dump(), as_clip)
    return list(pieces), pieces


class TestPieces:
    @pytest.mark.parametrize(
        ("seconds", "audio"),
        [(29.0, {}), (2.0, {"max_seconds": 2.0}), (2.5, {"max_seconds": 2.0, "offset_seconds": 0.5})],
    )
    def test_what_the_recipe_does_not_cut_is_one_clip(self, seconds, audio):
        samples = babble(seconds)
        (clip,), pieces = heard(samples, **audio)
        np.testing.assert_array_equal(clip.samples[:, 0], samples)
        assert pieces.seconds == seconds and pieces.heard == seconds - audio.get("offset_seconds", 0)

    def test_silent_ends_that_the_recipe_trims_are_no_reason_for_windows(self):
        silence = np.zeros(2 * RATE, np.float32)
        samples = np.concatenate([silence, babble(1.5), silence])
        assert len(heard(samples, max_seconds=3.0, trim_below_db=30)[0]) == 1
        assert len(heard(samples, max_seconds=3.0)[0]) > 1

    @pytest.mark.parametrize("rate", [8000, 44100])
    @pytest.mark.parametrize("seconds", [3.2, 10.2, 40.0])
    def test_a_longer_one_is_heard_to_its_end(self, seconds, rate):
        pieces, about = heard(babble(seconds, rate=rate), rate=rate, max_seconds=3.0)
        assert len(pieces) == 1 + np.ceil(round(seconds - 3.0, 6))
        assert {len(piece.samples) for piece in pieces} == {3 * RATE} and pieces[-1].name.endswith(f"{seconds:g} s")
        assert about.heard == pytest.approx(seconds, abs=0.01) == about.seconds

    def test_pauses_are_not_heard(self):
        samples = np.concatenate([babble(6), np.zeros(30 * RATE, np.float32), babble(6)])
        _, about = heard(samples, max_seconds=2.0)
        assert about.seconds == 42 and 11.5 < about.heard < 17

    def test_as_a_clip_it_is_read_as_training_reads_it(self):
        (clip,), about = heard(babble(40), as_clip=True, max_seconds=3.0, offset_seconds=0.5)
        assert len(clip.samples) == 40 * RATE and (about.seconds, about.heard) == (40.0, 3.0)

    @pytest.mark.parametrize("seconds", [1, 4, 29, 31])
    @pytest.mark.parametrize("longest", [None, 3.0])
    def test_a_muted_microphone_is_refused_at_any_length(self, seconds, longest):
        dither = np.random.default_rng(0).integers(-1, 2, RATE * seconds).astype(np.float32) / 32768
        with pytest.raises(SerError, match="it: silent, .*there is no speech"):
            heard(dither, max_seconds=longest)

    def test_noise_without_a_voice_is_refused_where_there_are_windows(self):
        with pytest.raises(SerError, match="no speech was detected"):
            heard(0.01 * np.random.default_rng(0).standard_normal(40 * RATE).astype(np.float32))

    @settings(max_examples=20, deadline=None)
    @given(seconds=st.floats(0.1, 12), longest=st.none() | st.floats(0.3, 5), skipped=st.sampled_from([0.0, 0.2]))
    def test_no_part_is_lost_and_none_counted_twice(self, seconds, longest, skipped):
        pieces, about = heard(babble(seconds), max_seconds=longest, offset_seconds=skipped)
        assert pieces and 0 < about.heard <= about.seconds + 1e-6
        assert about.seconds == pytest.approx(seconds, abs=1 / RATE)


def test_the_defaults_of_windows():
    stream = windows.Windows(RATE, RATE, detector="none")
    found = stream.push(babble(5)) + stream.push(np.zeros(0, np.float32), last=True)
    assert [(window.start / RATE, window.end / RATE) for window in found] == [(0, 3), (1, 4), (2, 5)]
