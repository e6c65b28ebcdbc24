"""What the probes of the claims audit are given, and what is said of corpora that are not there."""

import pytest
from conftest import tone_clips

from ser_lib.common.errors import SerError
from ser_lib.studies import probe_inputs


def test_corpora_that_are_not_there_or_not_whole_are_said_to_be(tmp_path, monkeypatch):
    tones = tone_clips(tmp_path, speakers=4)

    def load(names, *_, **__):
        if names == ["tess"]:
            raise SerError("found nowhere")
        clips = tones.copy()
        clips.attrs["shortfall"] = {"sample": (48, 256)}
        return clips

    monkeypatch.setattr(probe_inputs, "load_clips", load)
    told = []
    assert len(probe_inputs.corpora_at_hand(["sample", "tess"], say=told.append)) == len(tones)
    assert told == [
        "sample is a slice here, 48 of 256 clips: do not quote its scores",
        "tess is left out: found nowhere",
    ]
    with pytest.raises(SerError, match="none of the corpora tess can be found"):
        probe_inputs.corpora_at_hand(["tess"], say=told.append)
