"""The benchmark of large corpora: what it simulates, and what its page says."""

import re

import pandas as pd
import pytest

from ser_lib.corpora.clips import load_clips
from ser_lib.reports import large_corpora, plots


def test_a_simulated_corpus_is_a_corpus_of_different_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(large_corpora, "SPEAKERS", 4)
    large_corpora.write_corpus(tmp_path, 40)
    clips = load_clips(str(tmp_path / "simulated.csv"), progress=False)
    assert len(clips) == clips["audio_hash"].nunique() == 40 and clips["speaker"].nunique() == 4
    assert clips.groupby("emotion")["sentence"].nunique().min() > 1


@pytest.mark.parametrize("power, least, most", [(1, 0.5, 1.0), (2, 5, 200)])
def test_the_page_says_how_fast_time_grows(tmp_path, power, least, most):
    table = pd.DataFrame(
        [
            {"clips": size, "step": step, "seconds": (size / 1000) ** power, "gigabytes": size / 1e5}
            for size in (1000, 10_000, 100_000)
            for step in ("clip table", "audit")
        ]
    )
    assert least < large_corpora.growth(table) < most
    page = large_corpora.write_page(table, tmp_path / "bench.html").read_text()
    assert "up to 100,000 clips" in page and "largest memory is 1.00 GB" in page
    assert len(re.findall(r"<tr><td", page)) == len(table) and "data:image/png;base64," in page


def test_the_axes_of_its_picture_bear_plain_numbers():
    rows = [(size, "audit", size / 1e3, size / 1e5) for size in (1000, 10_000, 100_000)]
    figure = plots.growth(pd.DataFrame(rows, columns=["clips", "step", "seconds", "gigabytes"]))
    figure.canvas.draw()
    labels = [text.get_text() for axes in figure.axes for text in [*axes.get_xticklabels(), *axes.get_yticklabels()]]
    assert {"1,000", "100,000", "10", "100"} <= set(labels) and not any("$" in label for label in labels)
