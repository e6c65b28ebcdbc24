# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Claims audit
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ser-lib/ser-lib/blob/main/notebooks/Claims_Audit.ipynb)
#
# Five public projects claim 86 to 100 % accuracy in speech emotion recognition. This notebook measures each claim as it
# is stated, and again with one leak after another closed. Then it measures the leaks one at a time, the scores on other
# corpora and in noise, and what else a reader should know about such a number.

# %%
# In Colab, download and install the project. Elsewhere this cell does nothing.
import pathlib
import sys

project = pathlib.Path("/content/ser-lib")
if "google.colab" in sys.modules:
    if not project.is_dir():
        get_ipython().system("git clone --depth 1 https://github.com/ser-lib/ser-lib.git /content/ser-lib")
    if not (project / "pyproject.toml").is_file():
        sys.exit(f"The project is not reachable. Upload its folder to {project}, and run this cell again.")
    get_ipython().system("pip install --quiet -e /content/ser-lib")
    sys.path.insert(0, "/content/ser-lib")

# %% tags=["parameters"]
encoder = None  # replaces the recipes' pretrained encoders, such as "openai/whisper-base" or a folder
train = True  # False: take the committed predictions of the claims, and train only the run of the last section
bundled = False  # use only the bundled synthetic corpus, with few epochs: a test that everything runs
data_dir = None  # a folder with one folder a corpus, such as "/content/drive/MyDrive/archive"
runs_dir = None  # the folder of all runs; None: runs/ in the checkout
reports_dir = None  # the folder of results.csv; None: reports/ in the checkout

# %%
if "google.colab" in sys.modules and "/content/drive" in f"{data_dir} {runs_dir}":
    from google.colab import drive

    drive.mount("/content/drive")

# %%
import pandas as pd
from IPython.display import Markdown, display

from ser_lib.evaluation import calibration, comparison, run_analysis
from ser_lib.evaluation.results import read_results
from ser_lib.protocols.splits import make_split
from ser_lib.recipes import load_recipe
from ser_lib.reports import notebook_display as show
from ser_lib.reports import plots
from ser_lib.studies import claims, leaks, probe, robustness

overrides = list(claims.BUNDLED) if bundled else []
corpora = ["sample"] if bundled else ["ravdess", "tess", "savee", "crema_d"]

# %% [markdown]
# ## The claims
#
# Missing runs are trained, finished runs are read; or, with `train = False`, the committed predictions are. A recipe is left
# out, with the reason, if its encoder or corpus cannot be loaded.

# %% tags=["log"]
folders = {"data_dir": data_dir, "runs_dir": runs_dir, "reports_dir": reports_dir}
draws = 2 if bundled else claims.DRAWS
runs = claims.measure_claims(encoder=encoder, overrides=overrides, draws=draws, train=train, **folders)

# %% [markdown]
# Accuracy, as in the claims, with its 95 % interval over speakers; where too few speakers are tested for an interval,
# the score of each. *As stated* follows the source's README, *as its notebook ran* its code where the two differ.
# *Without copies* drops files that the archive holds twice. *New speakers* are never in training. *Strictest*: neither
# speaker nor sentence is in training; of several corpora, no clip of the tested corpus. *Labels shuffled*: the same
# training with labels in random order, several times: mean, standard deviation (sd) and range. *Chance*: the accuracy
# of always answering the most frequent emotion of the test clips. *People*: human listeners, from audio only. Fewer
# epochs or folds than the recipe's, because no GPU was at hand, are named in the cell; they lower scores.

# %%
table = claims.claims_table(read_results(reports_dir), overrides)
display(Markdown(claims.markdown(table)))

# %% [markdown]
# The same rows with UAR, clips, speakers and seeds.

# %%
scores = ["accuracy", "accuracy_low", "accuracy_high", "uar", "uar_low", "uar_high"]
shown = [
    "protocol",
    "encoder",
    "stand_in_for",
    *scores,
    "n_train",
    "n_test",
    "test_speakers",
    "seeds",
    "reduced",
    "part",
]
table.set_index(["recipe", "column"])[shown].map(lambda cell: f"{cell:.3f}" if isinstance(cell, float) else cell)

# %% [markdown]
# Black lines: claims. Red: measured with leaks. Blue: measured without them.

# %%
claimed = {name: load_recipe(name).claim.accuracy for name in table["recipe"]}
plots.claims_ladder(table, claimed)

# %% [markdown]
# ### What the splits share
#
# The columns differ in more than one leak: their trainings differ in size, and their test clips are not the same. So no
# difference between them is the worth of a leak. The next section measures that, one leak at a time, between trainings of
# the same size and in pairs on the same clips.

# %%
for name in dict.fromkeys(name for name, _ in runs):
    by_column = {key: seeds[0] for (recipe, key), seeds in runs.items() if recipe == name}
    text = claims.explain_difference(name, by_column, data_dir)
    display(Markdown(f"**{name}** ([source]({load_recipe(name).claim.source})). {text}"))

# %% [markdown]
# ## One leak at a time
#
# The model is a logistic regression on one layer of an encoder or on MFCC, fitted to its optimum without randomness: two
# scores differ only by the leak. Dots: honest. Diamonds: leaky. Hollow marks: a part of the test clips of the condition
# above.

# %%
archive = probe.load_available(corpora, data_dir)
clips = archive.drop_duplicates("audio_hash").reset_index(drop=True)
read = probe.feature_reader(encoder)
main = clips[clips["corpus"] == corpora[0]].reset_index(drop=True)
features = read(main).reshape(len(main), -1)
print(f"{corpora[0]}: {len(main)} clips of {main['speaker'].nunique()} speakers, {features.shape[1]} features a clip")
measured = []

# %% [markdown]
# **Duplicate files.** Kaggle's archives of RAVDESS and TESS hold every file twice. In a random split most test files have
# a duplicate in training, and a model that memorises it predicts the right label.

# %%
files = archive[archive["corpus"] == corpora[0]].reset_index(drop=True)
if files["audio_hash"].duplicated().any():
    measured.append(show.mechanism(leaks.duplicate_files(files, read(files).reshape(len(files), -1))))
else:
    print(f"{corpora[0]} holds no duplicates: every clip is duplicated here, to show their effect.")
    measured.append(show.mechanism(leaks.duplicate_files(*leaks.with_duplicates(main, features))))

# %% [markdown]
# **The same speaker.** In a random split the model is trained on other clips of every test speaker.

# %%
measured.append(show.mechanism(leaks.same_speaker(main, features)))

# %% [markdown]
# **Choosing on test clips.** The best epoch, or the best layer of an encoder, is chosen by the test score.

# %%
measured.append(show.mechanism(leaks.epoch_chosen_on_test(main, features)))

# %%
layers = probe.feature_reader(encoder, "all")(main)
if layers.ndim == 3:
    measured.append(show.mechanism(leaks.layer_chosen_on_test(main, layers)))
else:
    print("MFCC have no layers to choose from.")

# %% [markdown]
# The best of many settings scores higher by chance, the more of them are tried, even if all are equally good: here they
# differ only in the noise added to the features.

# %%
measured.append(show.mechanism(leaks.best_of_many(main, features)))

# %% [markdown]
# **Augmentation before the split.** Altered copies of test clips are in training.

# %%
copies = leaks.features_of_copies(main, read, probe.AUDIO)
measured.append(show.mechanism(leaks.copies_before_split(main, features, copies)))

# %% [markdown]
# **Normalising with test clips.** Mean and deviation are computed before the split, or for each speaker. The latter is a
# protocol of the package, and transductive: it needs many clips of a new speaker, without labels.

# %%
measured.append(show.mechanism(leaks.normalised_with_test(main, features)))

# %% [markdown]
# **Labels decided by corpus.** Joined corpora do not share all emotions: recognising the corpus excludes some of them.

# %%
everything = read(clips).reshape(len(clips), -1)
if clips["corpus"].nunique() > 1:
    measured.append(show.mechanism(leaks.label_decided_by_corpus(clips, everything)))
else:
    print("This needs two corpora or more.")

# %% [markdown]
# **Speakers as labels.** One source misreads SAVEE's file names, so that a speaker's initials become the label.
# Recognising four speakers is easy, and unrelated to emotion.

# %%
few = clips["corpus"] == ("savee" if "savee" in set(clips["corpus"]) else corpora[0])
few &= clips["speaker"].isin(sorted(clips.loc[few, "speaker"].unique())[:8])
measured.append(show.mechanism(leaks.speaker_as_label(clips[few].reset_index(drop=True), everything[few])))

# %% [markdown]
# All leaks, with the points of UAR that each adds.

# %%
worth = leaks.worth(pd.concat(measured, ignore_index=True))
display(plots.worth_of_mechanisms(worth), worth.round(3))

# %% [markdown]
# ## Other corpora and other recordings
#
# ### Another corpus
#
# Trained on all speakers of the row's corpus, tested on the column's, with the emotions that both have. The diagonal:
# folds by speaker within one corpus.

# %%
if clips["corpus"].nunique() > 1:
    matrix = robustness.cross_corpus_matrix(clips, everything, progress=False)
    display(plots.cross_corpus_heatmap(matrix), matrix.round(3))
else:
    print("This needs two corpora or more.")

# %% [markdown]
# ### Noise, reverberation, telephone, and the first seconds
#
# Trained on clean clips, tested on degraded versions of the test clips. Babble is mixed from training speakers.

# %%
split = make_split(main, "speaker", 0)
conditions = robustness.CONDITIONS[10:13] if bundled else robustness.CONDITIONS
degraded = robustness.under_conditions(main, split, read, conditions, audio=probe.AUDIO, progress=False)
display(plots.noise_curves(degraded))

# %%
plots.condition_points(degraded)

# %%
degraded[["condition", "uar", "uar_low", "uar_high", "chance", "n_test"]].round(3).set_index("condition")

# %% [markdown]
# ## What a careful reader asks
#
# One run on new speakers in detail: the run of a single corpus with the most test speakers.

# %%
honest = {name: seeds[0] for (name, key), seeds in runs.items() if key == "new-speakers"}
single = [run for run in honest.values() if len(run.corpora) == 1]
run = max(single, key=lambda run: run.metrics["overall"]["test_speakers"])
run = claims.run_with_seed(run, run.seed, data_dir, runs_dir)  # with its models
tested = run.test_clips()
print(f"{run.recipe.name}: {len(tested)} test clips of {tested['speaker'].nunique()} speakers.", *run.recipe.notices)

# %% [markdown]
# **Is it calibrated?** One temperature a fold, fitted on validation speakers, moves confidence towards accuracy and
# changes no decision.

# %%
before = run_analysis.test_predictions(run)
validation = run_analysis.validation_predictions(run, data_dir=data_dir, progress=False)
after = calibration.calibrated(before, validation)
reliability = [
    calibration.reliability_table(table, tested["speaker"], tested["corpus"]) for table in (run.predictions, after)
]
display(plots.temperature_reliability(*reliability))
calibration.calibration_change(run.predictions, after, tested["speaker"], tested["corpus"]).round(3)

# %% [markdown]
# **Is it more accurate where it is confident?** Accuracy when the least confident predictions are left out.

# %%
plots.coverage(calibration.coverage_curve(run.predictions, tested["speaker"], tested["corpus"]))

# %% [markdown]
# **For whom does it work?** UAR by sex, speaker, sentence and intensity, where they are known.

# %%
groups = comparison.by_attributes(run.predictions, tested)
for attribute in dict.fromkeys(groups.index.get_level_values(0)):
    if len(groups.loc[attribute]) <= 40:
        title = f"UAR by {attribute} on new speakers"
        display(plots.scores_by_group(groups.loc[attribute], title, groups.loc[attribute, "chance"].max()))

# %% [markdown]
# **Which emotions does it confuse?**

# %%
plots.confused_pairs(comparison.confused_pairs(run.predictions, tested["speaker"], tested["corpus"]))

# %% [markdown]
# **Is one run better than another?** Compared in pairs, on the same test clips: a t test over the speakers
# of both runs. The p values are corrected for the number of pairs (Holm).

# %%
comparable = claims.comparable_groups(honest)
for group in comparable:
    pairs = run_analysis.compare_runs(group)
    shown = ["first", "second", "uar_difference", "uar_p_holm", "mcnemar_p_holm", "n_test", "interval_over"]
    display(plots.paired_differences(pairs), pairs[shown].round(4))
if not comparable:
    print("No two recipes were tested on the same clips.")

# %% [markdown]
# **How much depends on the seed?** The same recipe with three seeds, which determine folds and initial weights.

# %%
seeds = [claims.run_with_seed(run, seed, data_dir, runs_dir) for seed in (0, 1, 2)]
run_analysis.seed_spread(seeds).round(3)

# %% [markdown]
# ## How to read a number in speech emotion recognition
#
# 1. **Are test speakers in training?** Then the score does not hold for new speakers. A random split has this leak.
# 2. **How many speakers and clips?** An interval over the clips of two speakers does not hold for other speakers.
# 3. **Which score?** Accuracy is too favourable where emotions differ in frequency; UAR is not. Compare both with chance
#    and with human listeners.
# 4. **What was chosen on which clips?** An epoch, layer or threshold chosen on test clips raises the score.
# 5. **Are there duplicates?** Files of different names may hold the same recording. `ser audit` finds them.
# 6. **Which corpora: acted or spontaneous, one recording room or several?** Scores drop on other corpora.
# 7. **What about noise, short clips and telephone?** See above.
# 8. **Can it be reproduced?** It needs a commit, a seed, the split as a file, and a command.
