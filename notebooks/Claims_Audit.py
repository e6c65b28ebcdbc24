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
# Five public projects claim 86 to 100 % accuracy in hearing emotions. Here each claim is reproduced as it is stated, and
# then measured again with one leak after the other closed. After that come the leaks themselves, one at a time; what
# survives in another room; and what a careful reader asks of any such number.

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
encoder = None  # read in place of the recipes' pretrained encoders, such as "openai/whisper-base" or a folder
bundled = False  # in small, on the bundled synthetic corpus alone: it shows that everything runs
data_dir = None  # a folder with one folder a corpus, such as "/content/drive/MyDrive/archive"
runs_dir = None  # where run folders go; None: runs/ in the checkout
reports_dir = None  # where results.csv lies; None: reports/ in the checkout

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
from ser_lib.studies import claims, leaks, probe_inputs, robustness

overrides = list(claims.BUNDLED) if bundled else []
corpora = ["sample"] if bundled else ["ravdess", "tess", "savee", "crema_d"]

# %% [markdown]
# ## The claims
#
# What is missing is trained; runs that are finished are read. A recipe whose encoder or corpus cannot be had is left
# out, and said to be.

# %% tags=["log"]
runs = claims.measure(
    encoder=encoder, overrides=overrides, data_dir=data_dir, runs_dir=runs_dir, reports_dir=reports_dir
)

# %% [markdown]
# Accuracy, because that is what is claimed, with its 95 % interval: over speakers, or, marked †, over clips where fewer
# than eight speakers are tested, which is too narrow. *As stated* follows the source's README, *as its notebook ran* its
# code where that differs. *Without copies* drops files that stand in the archive twice. *New speakers* are never trained
# on. *Strictest*: neither voice nor sentence was heard in training, or, for several corpora at once, not one clip of the
# tested corpus. *Labels shuffled*: the same training on labels that mean nothing. *People* named the emotion from the
# audio alone. In brackets is what was made smaller for want of a GPU: the fewer epochs, the less is learned, with leaks
# and without.

# %%
table = claims.claims_table(read_results(reports_dir), overrides)
display(Markdown(claims.markdown(table, overrides)))

# %% [markdown]
# The same rows with UAR, clips, speakers and seeds.

# %%
scores = ["accuracy", "accuracy_low", "accuracy_high", "uar", "uar_low", "uar_high"]
shown = ["protocol", "encoder", *scores, "n_test", "test_speakers", "seeds"]
table.set_index(["recipe", "column"])[shown].map(lambda cell: f"{cell:.3f}" if isinstance(cell, float) else cell)

# %% [markdown]
# Black strokes are claims. Red is measured with leaks, blue without.

# %%
claimed = {name: load_recipe(name).claim.accuracy for name in table["recipe"]}
plots.claims_ladder(table, claimed)

# %% [markdown]
# ### What the difference is made of

# %%
for name in dict.fromkeys(name for name, _ in runs):
    own = {key: seeds[0] for (recipe, key), seeds in runs.items() if recipe == name}
    display(
        Markdown(f"**{name}** ([source]({load_recipe(name).claim.source})). {claims.explained(name, own, data_dir)}")
    )

# %% [markdown]
# ## The mechanisms, one at a time
#
# A small model, logistic regression on one layer of an encoder or on MFCC, fitted to its optimum without any chance, so
# that two scores differ by the leak alone. Dots are honest, diamonds leak; hollow marks are some of the test clips of
# the condition above them.

# %%
archive = probe_inputs.corpora_at_hand(corpora, data_dir)
clips = archive.drop_duplicates("audio_hash").reset_index(drop=True)
read = probe_inputs.reader(encoder)
main = clips[clips["corpus"] == corpora[0]].reset_index(drop=True)
features = read(main).reshape(len(main), -1)
print(f"{corpora[0]}: {len(main)} clips of {main['speaker'].nunique()} speakers, {features.shape[1]} features a clip")
measured = []

# %% [markdown]
# **The same recording twice.** Kaggle's archives of RAVDESS and TESS hold every file two times. Split at random, most
# test files have a twin in training, and a model that remembers it answers right.

# %%
files = archive[archive["corpus"] == corpora[0]].reset_index(drop=True)
if files["audio_hash"].duplicated().any():
    measured.append(show.mechanism(leaks.twins(files, read(files).reshape(len(files), -1))))
else:
    print(f"{corpora[0]} holds no copies: every clip is doubled here, to show what copies would do.")
    measured.append(show.mechanism(leaks.twins(*leaks.doubled(main, features))))

# %% [markdown]
# **The same speaker.** A random split lets the model know each test speaker's way of being angry.

# %%
measured.append(show.mechanism(leaks.same_speaker(main, features)))

# %% [markdown]
# **Choosing on test clips.** The best epoch, or the best layer of an encoder, picked by the test score.

# %%
measured.append(show.mechanism(leaks.epoch_chosen_on_test(main, features)))

# %%
layers = probe_inputs.reader(encoder, "all")(main)
if layers.ndim == 3:
    measured.append(show.mechanism(leaks.layer_chosen_on_test(main, layers)))
else:
    print("MFCC have no layers to choose from.")

# %% [markdown]
# The more settings are tried, the more the luckiest is worth, even where none of them is better than another: here each
# sees the features through noise of its own.

# %%
measured.append(show.mechanism(leaks.best_of_many(main, features)))

# %% [markdown]
# **Augmentation before the split.** Altered copies of test clips get into training.

# %%
copies = leaks.features_of_copies(main, read, probe_inputs.AUDIO)
measured.append(show.mechanism(leaks.copies_before_split(main, features, copies)))

# %% [markdown]
# **Normalising with test clips.** Mean and deviation taken before the split, or of each speaker by themselves. The
# latter is a protocol of its own, transductive: it needs many clips of the new speaker, though no labels.

# %%
measured.append(show.mechanism(leaks.normalised_with_test(main, features)))

# %% [markdown]
# **Labels decided by corpus.** Joined corpora do not share all emotions, and hearing the room narrows the answer.

# %%
everything = read(clips).reshape(len(clips), -1)
if clips["corpus"].nunique() > 1:
    measured.append(show.mechanism(leaks.label_decided_by_corpus(clips, everything)))
else:
    print("One corpus alone decides no labels.")

# %% [markdown]
# **Speakers as labels.** One source reads SAVEE's file names wrongly, so that a speaker's initials become the emotion.
# Telling four voices apart is easy; it says nothing about emotion.

# %%
few = clips["corpus"] == ("savee" if "savee" in set(clips["corpus"]) else corpora[0])
few &= clips["speaker"].isin(sorted(clips.loc[few, "speaker"].unique())[:8])
measured.append(show.mechanism(leaks.speaker_as_label(clips[few].reset_index(drop=True), everything[few])))

# %% [markdown]
# All of them, and what each is worth in points of UAR.

# %%
worth = leaks.worth(pd.concat(measured, ignore_index=True))
display(plots.worth_of_mechanisms(worth), worth.round(3))

# %% [markdown]
# ## What survives
#
# ### Another corpus
#
# Trained on all speakers of the row, tested on the column, on the emotions that both have. The diagonal is folds by
# speaker within one corpus.

# %%
if clips["corpus"].nunique() > 1:
    matrix = robustness.cross_corpus_matrix(clips, everything, progress=False)
    display(plots.cross_corpus_heatmap(matrix), matrix.round(3))
else:
    print("One corpus alone has no other to be tested on.")

# %% [markdown]
# ### Noise, rooms, lines, and the first seconds
#
# Trained on clean clips, tested on the same test clips, degraded. Babble is mixed from training speakers.

# %%
split = make_split(main, "speaker", 0)
conditions = robustness.CONDITIONS
survived = robustness.under_conditions(main, split, read, conditions, audio=probe_inputs.AUDIO, progress=False)
display(plots.noise_curves(survived))

# %%
plots.condition_points(survived)

# %%
survived[["condition", "uar", "uar_low", "uar_high", "chance", "n_test"]].round(3).set_index("condition")

# %% [markdown]
# ## What a careful reader asks
#
# Of one run on new speakers, read closely: that of a single corpus with the most speakers.

# %%
honest = {name: seeds[0] for (name, key), seeds in runs.items() if key == "new-speakers"}
single = [run for run in honest.values() if len(run.corpora) == 1]
run = max(single, key=lambda run: run.metrics["overall"]["test_speakers"])
tested = run.test_clips()
print(f"{run.recipe.name}: {len(tested)} test clips of {tested['speaker'].nunique()} speakers")

# %% [markdown]
# **Can its probabilities be believed?** One temperature a fold, fitted on validation speakers, moves confidence towards
# accuracy and changes no decision.

# %%
before = run_analysis.test_predictions(run)
validation = run_analysis.validation_predictions(run, data_dir=data_dir, progress=False)
after = calibration.calibrated(before, validation)
reliability = [calibration.reliability_table(told, tested["speaker"]) for told in (run.predictions, after)]
display(plots.temperature_reliability(*reliability))
calibration.calibration_change(run.predictions, after, tested["speaker"]).round(3)

# %% [markdown]
# **May it keep silent?** Accuracy when the least sure answers are left out.

# %%
plots.coverage(calibration.coverage_curve(run.predictions, tested["speaker"]))

# %% [markdown]
# **For whom does it work?** By sex, speaker, sentence and intensity, where they are known.

# %%
groups = comparison.by_attributes(run.predictions, tested)
for attribute in dict.fromkeys(groups.index.get_level_values(0)):
    if len(groups.loc[attribute]) <= 40:
        title = f"UAR by {attribute} on new speakers"
        display(plots.scores_by_group(groups.loc[attribute], title, groups.loc[attribute, "chance"].max()))

# %% [markdown]
# **What does it confuse?**

# %%
plots.confused_pairs(comparison.confused_pairs(run.predictions, tested["speaker"]))

# %% [markdown]
# **Is one better than another?** Only on the same test clips, and in pairs: speakers are drawn for both at once, and the
# p values are corrected for their number (Holm).

# %%
alike = claims.on_the_same_clips(honest)
for group in alike:
    pairs = run_analysis.compare_runs(group)
    shown = ["first", "second", "uar_difference", "uar_p_holm", "mcnemar_p_holm", "n_test", "interval_over"]
    display(plots.paired_differences(pairs), pairs[shown].round(4))
if not alike:
    print("No two recipes were tested on the same clips.")

# %% [markdown]
# **How much is luck?** The same recipe with other seeds: other folds, other weights to begin with.

# %%
seeds = [claims.again(run, seed, data_dir, runs_dir) for seed in (0, 1, 2)]
run_analysis.seed_spread(seeds).round(3)

# %% [markdown]
# ## How to read a number in speech emotion recognition
#
# 1. **Who was tested?** If a test speaker was trained on, the number is about that speaker. A random split does that.
# 2. **How many speakers, how many clips?** An interval over clips of two speakers is not one over speakers.
# 3. **Which score?** Accuracy flatters where emotions are uneven; UAR does not. Both against chance, and against people.
# 4. **What was chosen on what?** Epoch, layer, threshold: each choice on test clips is a little training on them.
# 5. **Are there copies?** Two files with other names may hold the same sound. `ser audit` looks.
# 6. **Which corpora, acted or not, one room or many?** A model that knows one corpus knows one room.
# 7. **What happens in noise, in two seconds, on a telephone?** See above.
# 8. **Can it be made again?** A commit, a seed, a split as a file, and a command.
