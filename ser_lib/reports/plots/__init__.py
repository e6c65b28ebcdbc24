"""Every picture of the reports, drawn from tables and waveforms alone.

Each function returns a closed matplotlib Figure: it leaves nothing behind in pyplot, and a notebook that ends
a cell with it shows it once. The title says what the data show, and an emotion has the same colour everywhere.
All figures are equally wide, so that their text is equally large on a page.
"""

from ser_lib.reports.plots.careful import confused_pairs, coverage, paired_differences, temperature_reliability
from ser_lib.reports.plots.claims import claims_ladder
from ser_lib.reports.plots.data import class_counts, durations, feature_heatmap, speaker_counts, split_sizes
from ser_lib.reports.plots.embeddings import embedding_map, layer_weights
from ser_lib.reports.plots.explain import occlusion
from ser_lib.reports.plots.mechanisms import honest_and_leaky, worth_of_mechanisms
from ser_lib.reports.plots.results import (
    confusion_matrices,
    learning_curves,
    probability_by_truth,
    probability_plot,
    reliability,
    scores_by_group,
)
from ser_lib.reports.plots.robustness import condition_points, cross_corpus_heatmap, noise_curves
from ser_lib.reports.plots.sound import emotion_gallery, waveform_and_spectrogram
from ser_lib.reports.plots.style import COLOURS
from ser_lib.reports.plots.timeline import timeline

__all__ = [
    "COLOURS",
    "claims_ladder",
    "class_counts",
    "condition_points",
    "confused_pairs",
    "confusion_matrices",
    "coverage",
    "cross_corpus_heatmap",
    "durations",
    "embedding_map",
    "emotion_gallery",
    "feature_heatmap",
    "honest_and_leaky",
    "layer_weights",
    "learning_curves",
    "noise_curves",
    "occlusion",
    "paired_differences",
    "probability_by_truth",
    "probability_plot",
    "reliability",
    "scores_by_group",
    "speaker_counts",
    "split_sizes",
    "temperature_reliability",
    "timeline",
    "waveform_and_spectrogram",
    "worth_of_mechanisms",
]
