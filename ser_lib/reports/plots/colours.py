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
# Of lines: markers and line styles differ too, for readers who cannot tell the colours apart.
MARKS: list[dict[str, Any]] = [
    {"color": ACCENT, "marker": "o", "ls": "-"},
    {"color": COLOURS["surprise"], "marker": "s", "ls": (0, (5, 2))},
    {"color": COLOURS["disgust"], "marker": "^", "ls": (0, (2, 1.2))},
    {"color": GREY, "marker": "D", "ls": (0, (1, 1))},
]
