"""Whatever others wrote is answered or refused in a sentence: names, `--set`, recipes, CSV and files of runs."""

import foreign_input
import pytest
from hypothesis import HealthCheck, given, settings


@pytest.mark.parametrize("kind", foreign_input.PROPERTIES)
def test_any_input_is_answered_or_refused(kind):
    executed, inputs = foreign_input.PROPERTIES[kind]
    quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    quick(given(inputs)(executed))()


@pytest.mark.parametrize("value", ["1", "{a: 1}", "[[1]]", "null", ".nan", "2020-01-01", "0000-01-01", "[]", "&a"])
def test_corpora_that_are_no_names_are_refused_in_a_sentence(value):
    foreign_input.override(f"corpora={value}")


@pytest.mark.parametrize("text", ["~0", "~nobody-here/a", "~\0x", "\0", "~/\0", "a\0b.csv", "~\0.yaml"])
def test_names_that_are_no_names_are_refused_in_a_sentence(text):
    foreign_input.name(text)
