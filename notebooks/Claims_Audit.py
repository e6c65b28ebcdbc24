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
# Five public projects claim 86 to 100 % accuracy in speech emotion recognition. This notebook shows each claim, measured
# as it is stated and again with one leak after another closed; then the leaks one at a time, the scores on other corpora
# and in noise, and what else a reader should know about such a number.
#
# Measuring takes hours, so the numbers were measured before. `ser claims`, or `measure = True` below, measures them again.

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
measure = False  # True: measure everything anew, which takes hours; False: show the tables in `reports_dir`
encoder = None  # replaces the recipes' pretrained encoders, such as "openai/whisper-base" or a folder
bundled = False  # use only the bundled synthetic corpus, with few epochs: a test that everything runs
data_dir = None  # a folder with one folder a corpus, such as "/content/drive/MyDrive/archive"
runs_dir = None  # the folder of all runs; None: runs/ in the checkout
reports_dir = None  # the folder of results.csv; None: reports/ in the checkout

# %%
if "google.colab" in sys.modules and "/content/drive" in f"{data_dir} {runs_dir} {reports_dir}":
    from google.colab import drive

    drive.mount("/content/drive")

# %%
from IPython.display import Markdown, display

from ser_lib.evaluation.results import read_results
from ser_lib.recipes import load_recipe
from ser_lib.reports import notebook_display as show
from ser_lib.reports import plots
from ser_lib.studies import claims, claims_audit, leaks

# %% tags=["log"]
if bundled:
    runs_dir, reports_dir = claims_audit.bundled_folders(runs_dir, reports_dir)
if measure:
    claims_audit.measure(encoder, bundled, data_dir=data_dir, runs_dir=runs_dir, reports_dir=reports_dir)
tables = claims_audit.read_tables(reports_dir)
notes = tables["notes"].groupby("section")["note"].apply(list)

# %%
show.sentences(notes["audit"])

# %% [markdown]
# ## The claims
#
# Accuracy, as in the claims, with its 95 % interval over speakers; where too few speakers are tested for an interval,
# the score of each. *As stated* follows the source's README, *as its notebook ran* its code where the two differ.
# *Without copies* drops files that the archive holds twice. *New speakers* are never in training. *Strictest*: neither
# speaker nor sentence is in training; of several corpora, no clip of the tested corpus. *Labels shuffled*: the same
# training with labels in random order, several times: mean, standard deviation (sd) and range. *Chance*: the accuracy
# of always answering the most frequent emotion of the test clips. *People*: human listeners, from audio only. Fewer
# epochs or folds than the recipe's, because no GPU was at hand, are named in the cell; they lower scores.

# %%
table = claims.claims_table(read_results(reports_dir), claims.BUNDLED if bundled else ())
display(Markdown(claims.markdown(table)), show.sentences(notes.get("claims", [])))

# %% [markdown]
# The same rows with UAR, clips, speakers and seeds.

# %%
scores = ["accuracy", "accuracy_low", "accuracy_high", "uar", "uar_low", "uar_high"]
counts = ["n_train", "n_test", "test_speakers", "seeds", "reduced", "part"]
shown = ["protocol", "encoder", "stand_in_for", *scores, *counts]
show.rounded(table.set_index(["recipe", "column"])[shown])

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
for name in tables["splits"]["recipe"].unique():
    text = claims.explain_difference(name, tables["splits"])
    display(Markdown(f"**{name}** ([source]({load_recipe(name).claim.source})). {text}"))

# %% [markdown]
# ## One leak at a time
#
# The model is a logistic regression on one layer of an encoder or on MFCC, fitted to its optimum without randomness: two
# scores differ only by the leak. Dots: honest. Diamonds: leaky. Hollow marks: a part of the test clips of the condition
# above.

# %%
show.sentences(notes["leaks"])

# %% [markdown]
# **Duplicate files.** Kaggle's archives of RAVDESS and TESS hold every file twice. In a random split most test files have
# a duplicate in training, and a model that memorises it predicts the right label.

# %%
show.mechanism(tables["leaks"], "duplicate files")

# %% [markdown]
# **The same speaker.** In a random split the model is trained on other clips of every test speaker.

# %%
show.mechanism(tables["leaks"], "same speaker")

# %% [markdown]
# **Choosing on test clips.** The best epoch, or the best layer of an encoder, is chosen by the test score.

# %%
show.mechanism(tables["leaks"], "epoch chosen on test")

# %%
show.mechanism(tables["leaks"], "layer chosen on test")

# %% [markdown]
# The best of many settings scores higher by chance, the more of them are tried, even if all are equally good: here they
# differ only in the noise added to the features.

# %%
show.mechanism(tables["leaks"], "best of many on test")

# %% [markdown]
# **Augmentation before the split.** Altered copies of test clips are in training.

# %%
show.mechanism(tables["leaks"], "copies before the split")

# %% [markdown]
# **Normalising with test clips.** Mean and deviation are computed before the split, or for each speaker. The latter is a
# protocol of the package, and transductive: it needs many clips of a new speaker, without labels.

# %%
show.mechanism(tables["leaks"], "normalised with test clips")

# %% [markdown]
# **Labels decided by corpus.** Joined corpora do not share all emotions: recognising the corpus excludes some of them.

# %%
show.mechanism(tables["leaks"], "label decided by corpus")

# %% [markdown]
# **Speakers as labels.** One source misreads SAVEE's file names, so that a speaker's initials become the label.
# Recognising four speakers is easy, and unrelated to emotion.

# %%
show.mechanism(tables["leaks"], "speaker as label")

# %% [markdown]
# All leaks, with the points of UAR that each adds.

# %%
worth = leaks.worth(tables["leaks"])
display(plots.worth_of_mechanisms(worth), show.rounded(worth.set_index("mechanism")))

# %% [markdown]
# ## Other corpora and other recordings
#
# ### Another corpus
#
# Trained on all speakers of the row's corpus, tested on the column's, with the emotions that both have. The diagonal:
# folds by speaker within one corpus.

# %%
matrix = tables["cross_corpus"]
if len(matrix):
    shown = ["test", "folds", "emotions", "n_train", "n_test", "uar", "uar_low", "uar_high", "chance"]
    display(plots.cross_corpus_heatmap(matrix), show.rounded(matrix.set_index("train")[shown]))
else:
    print("Not measured: this needs two corpora or more.")

# %% [markdown]
# ### Noise, reverberation, telephone, and the first seconds
#
# Trained on clean clips, tested on degraded versions of the test clips. Babble is mixed from training speakers.

# %%
plots.noise_curves(tables["conditions"])

# %%
plots.condition_points(tables["conditions"])

# %%
scores = ["condition", "uar", "uar_low", "uar_high", "chance", "n_test"]
show.rounded(tables["conditions"][scores].set_index("condition"))

# %% [markdown]
# ## What a careful reader asks
#
# One run on new speakers in detail: the run of a single corpus with the most test speakers.

# %%
show.sentences(notes["run"])

# %% [markdown]
# **Is it calibrated?** One temperature a fold, fitted on validation speakers, moves confidence towards accuracy and
# changes no decision.

# %%
stages = [rows for _, rows in tables["run_reliability"].groupby("stage", sort=False)]
display(plots.temperature_reliability(*stages))
show.rounded(tables["run_calibration"].set_index("probabilities"))

# %% [markdown]
# **Is it more accurate where it is confident?** Accuracy when the least confident predictions are left out.

# %%
plots.coverage(tables["run_coverage"])

# %% [markdown]
# **For whom does it work?** UAR by sex, speaker, sentence and intensity, where they are known.

# %%
for attribute, groups in tables["run_groups"].groupby("attribute", sort=False):
    if len(groups) <= 40:
        groups = groups.set_index("group")
        display(plots.scores_by_group(groups, f"UAR by {attribute} on new speakers", groups["chance"].max()))

# %% [markdown]
# **Which emotions does it confuse?**

# %%
plots.confused_pairs(tables["run_confusions"])

# %% [markdown]
# **Is one run better than another?** Compared in pairs, on the same test clips: a t test over the speakers
# of both runs. The p values are corrected for the number of pairs (Holm).

# %%
shown = ["first", "second", "uar_difference", "uar_p_holm", "mcnemar_p_holm", "n_test", "interval_over"]
for _, pairs in tables["comparisons"].groupby("group"):
    display(plots.paired_differences(pairs), show.rounded(pairs[shown].set_index("first"), 4))
if tables["comparisons"].empty:
    print("No two recipes were tested on the same clips.")

# %% [markdown]
# **How much depends on the seed?** The same recipe with three seeds, which determine folds and initial weights.

# %%
show.rounded(tables["run_seeds"].set_index("score"))

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
