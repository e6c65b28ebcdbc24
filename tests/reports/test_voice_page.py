"""The sentences and tables of the page "On your voice"."""

from invented_tables import voice_table

from ser_lib.reports import voice_page

CONDITIONS = ["no clips", "4 clips", "8 clips"]


def test_the_summary_compares_eight_clips_with_none():
    first, second = voice_page.summary(voice_table("number", CONDITIONS))
    assert first == (
        "Trained on all corpora, 8 unlabelled clips of a new speaker change UAR from 0.60 to 0.61 on RAVDESS (+1.0 points, "
        "+0.2 to +1.8); 0.60 to 0.61 on SAVEE (+1.0 points, +0.2 to +1.8)."
    )
    assert second.startswith("Trained on other corpora")
    assert "no interval: 2 speakers" in voice_page.summary(voice_table("number", CONDITIONS, speakers=2))[0]


def test_a_gain_or_harm_is_stated_where_its_interval_excludes_zero():
    table = voice_table("moods", CONDITIONS)
    assert voice_page.verdicts(table)[0] == (
        "Trained on all corpora: **A gain** is shown for 8 clips (RAVDESS, SAVEE). Neither is shown for the other 4."
    )
    harmed = table.assign(difference_high=-0.001, difference_low=-0.1)
    assert "**Harm** is shown for no clips (RAVDESS, SAVEE); 4 clips" in voice_page.verdicts(harmed)[0]
    unknown = voice_table("moods", CONDITIONS, speakers=2)
    assert voice_page.verdicts(unknown)[0] == "Trained on all corpora: too few speakers for a test."


def test_a_cell_has_both_scores_and_the_difference_with_its_interval():
    table = voice_table("moods", CONDITIONS)
    cells = voice_page.differences(table[(table["corpus"] == "ravdess") | (table["k"] < 8)])
    assert cells.loc[("all corpora", "8 clips"), "RAVDESS"] == "0.60 → 0.61, +1.0 (+0.2 to +1.8)"
    assert cells.loc[("all corpora", "8 clips"), "SAVEE"] == "too few clips"
    few = voice_page.differences(voice_table("moods", CONDITIONS, speakers=2))
    assert few.loc[("other corpora", "8 clips"), "SAVEE"] == "0.60 → 0.61, +1.0"


def test_listening_pays_from_the_first_bin_after_which_every_interval_is_above_zero():
    table = voice_table("listening", ["0 earlier clips", "1 to 3 earlier clips", "4 or more earlier clips"])
    assert voice_page.listening(table)[0] == (
        "RAVDESS, trained on all corpora: a gain is shown after 4 or more clips (+1.0 points, +0.2 to +1.8)."
    )
    none = table.assign(difference_low=-0.1)
    assert voice_page.listening(none)[0] == "RAVDESS, trained on all corpora: no gain is shown for any number of clips."
    few = voice_page.listening(voice_table("listening", table["condition"].unique(), speakers=2))[0]
    assert "+0.5 after 1 to 3, +1.0 after 4 or more clips" in few
