"""Every picture of the reports, drawn from tables and waveforms.

Each function returns a closed matplotlib Figure: pyplot keeps nothing open, and a notebook cell that ends with it
displays it once. An emotion has the same colour in all pictures. All figures have the same width, so that their text
has the same size on a page.
"""

from ser_lib.reports.plots.calibration import coverage, reliability, temperature_reliability
from ser_lib.reports.plots.colours import COLOURS
from ser_lib.reports.plots.data import (
    class_counts,
    durations,
    embedding_map,
    feature_heatmap,
    speaker_counts,
    split_sizes,
)
from ser_lib.reports.plots.predictions import (
    confused_pairs,
    confusion_matrices,
    model_and_people,
    paired_differences,
    probability_by_truth,
    probability_plot,
    scores_by_group,
)
from ser_lib.reports.plots.sound import emotion_gallery, occlusion
from ser_lib.reports.plots.studies import (
    claims_ladder,
    condition_points,
    coverage_of_intervals,
    cross_corpus_heatmap,
    growth,
    honest_and_leaky,
    noise_curves,
    worth_of_mechanisms,
)
from ser_lib.reports.plots.timeline import timeline
from ser_lib.reports.plots.training import layer_weights, learning_curves
from ser_lib.reports.plots.voice import enrolment_curves, enrolment_differences
