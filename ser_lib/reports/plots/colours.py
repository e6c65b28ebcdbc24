"""Colours and line styles of all pictures."""

from typing import Any

# Readers with protanopia, deuteranopia or tritanopia can tell them apart: tests/reports/test_plots.py measures it.
COLOURS = {
    "neutral": "#737481",
    "calm": "#76e1d0",
    "happy": "#ffc819",
    "sad": "#1c2d6d",
    "angry": "#a01b0d",
    "fear": "#bc5fd9",
    "disgust": "#299759",
    "surprise": "#cc7f15",
}
SUBSET_COLOURS = {"train": "#d5dae3", "validation": "#8fa3c8", "test": "#27427f", "enrolment": "#c9a227"}
INK, SOFT, GREY, ACCENT = "#22262e", "#4a505b", "#737481", "#27427f"
DASHES = (0, (4, 3))
REFERENCE: dict[str, Any] = {"color": GREY, "lw": 1, "ls": DASHES}  # a line to compare with, such as chance
