"""Labels that the model is sure to be wrong come first."""

import sys

import numpy as np
import pandas as pd
import pytest
from test_metrics import make_predictions, random_predictions

from ser_lib.common.errors import SerError
from ser_lib.evaluation.doubtful_labels import COLUMNS, doubtful_labels
from ser_lib.evaluation.metrics import decisions


def test_the_most_doubtful_labels_are_those_that_the_model_is_sure_to_be_wrong():
    pytest.importorskip("cleanlab", reason="cleanlab is not installed: pip install -e .[labels]")
    predictions, *_ = random_predictions(60, accuracy=1.0)
    sure = make_predictions([0, 1], [2, 1], confidence=0.98).assign(clip_id=["wrong", "right"])
    unsure = make_predictions([0], [3], confidence=0.4).assign(clip_id=["unsure"])
    table = doubtful_labels(pd.concat([predictions, sure, unsure]), n=3)
    assert table.index.tolist()[:2] == ["wrong", "unsure"] and list(table) == COLUMNS and len(table) == 3
    assert table.loc["wrong", ["label", "model_says"]].tolist() == ["neutral", "happy"]
    assert table.loc["wrong", "label_score"] == pytest.approx((1 + 0.02 / 3 - 0.98) / 2)
    assert table["label_score"].is_monotonic_increasing
    decided = decisions(sure).set_index("clip_id")
    assert table.loc["wrong", "label_probability"] == pytest.approx(decided.loc["wrong", "truth_probability"])
    # Another seed disagrees: the mean of both counts.
    mended = sure[:1].assign(neutral=0.98, happy=0.01, calm=0.005, sad=0.005)
    both = doubtful_labels(pd.concat([predictions, sure, unsure, mended]), n=200)
    assert len(both) == 63 and both.loc["wrong", "label_score"] == pytest.approx(0.5, abs=0.02)
    assert np.isfinite(both["label_score"]).all()


def test_without_cleanlab_it_says_what_to_install(monkeypatch):
    predictions, *_ = random_predictions(5)
    for name in ("cleanlab", "cleanlab.rank"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SerError, match=r"needs cleanlab: pip install \"ser-lib\[labels\]\""):
        doubtful_labels(predictions)
