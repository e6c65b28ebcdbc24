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
# # Data preparation
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ser-lib/ser-lib/blob/main/notebooks/Data_Preparation.ipynb)
#
# This notebook shows the data before training: the clips, their speakers, the split into training and test, and **what
# that split leaks**. Scores of 99 % in speech emotion recognition mostly come from the split, not from the model.

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
recipe_name = "demo"  # one of `ser_lib.recipes.recipe_names()`, or the path of your own recipe.yaml
protocol = "speaker"  # how clips are split into training and test: a name in `ser_lib.protocols.splits.PROTOCOLS`
variant = "stated"  # "as-run": with the settings of the source's notebook where they differ from its README
seed = 0
# Fields of the recipe to change, such as ["training.epochs=3", "corpora=[ravdess]"].
overrides = []
data_dir = None  # a folder with one folder per corpus, such as "/content/drive/MyDrive/archive"
runs_dir = None  # the folder of run folders; None: runs/ in the checkout
players = False  # True: the page also holds players of your own corpus, so that its readers can hear it

# %%
if "google.colab" in sys.modules and "/content/drive" in f"{data_dir} {runs_dir}":
    from google.colab import drive

    drive.mount("/content/drive")

# %%
import time

import pandas as pd

from ser_lib.audio import features, reading
from ser_lib.corpora import find_corpus, get_corpus
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.protocols.leak_audit import audit
from ser_lib.recipes import load_recipe
from ser_lib.recipes.inputs import clips_of, inputs_of, overview_of, split_of
from ser_lib.reports import notebook_chain, plots
from ser_lib.reports import notebook_display as show

pd.set_option("display.max_colwidth", None)

# %%
notebook_chain.agreement("Data_Preparation", globals())

# %% [markdown]
# ## The recipe
#
# One YAML file states the whole experiment; other fields have their default. Change any field with `overrides` above,
# or with `--set key.path=value` in a shell.

# %%
recipe = load_recipe(recipe_name, variant, overrides)
show.stated_recipe(recipe)

# %% [markdown]
# ## The clips
#
# The clip table has one row per clip. It leaves out unreadable files, silent clips and copies of the same audio, and
# prints how many. Only the protocol `published` keeps copies, where the source kept them.

# %%
clips = clips_of(recipe, protocol, data_dir)
clips.drop(columns=["path", "audio_hash"]).sample(5, random_state=seed).set_index("clip_id").round(2)

# %% [markdown]
# Folder, size and licence of each corpus:

# %%
summary = clips.groupby("corpus", sort=False).agg(
    clips=("clip_id", "count"),
    speakers=("speaker", "nunique"),
    emotions=("emotion", "nunique"),
    sentences=("sentence", "nunique"),
    minutes=("seconds", lambda seconds: round(seconds.sum() / 60, 1)),
)
summary["folder"] = [show.short_path(find_corpus(name, data_dir)) for name in summary.index]
summary["licence"] = [get_corpus(name).licence for name in summary.index]
summary

# %% [markdown]
# Clips of each emotion, by corpus. Recall is the share of an emotion's clips that is recognised, and UAR (unweighted
# average recall) is the mean of the emotions' recalls. If some emotions are rare, accuracy can be high although these
# are never recognised; UAR cannot.

# %%
plots.class_counts(clips)

# %% [markdown]
# Clips of each speaker. Where a field is blank, the speaker has no clip of that emotion.

# %%
plots.speaker_counts(clips)

# %%
plots.durations(clips)

# %% [markdown]
# ## Listen and look
#
# One clip of each emotion from one speaker, as the model reads it. Compare the distance between the pitch lines (anger,
# surprise), how fast they move, and the energy above 3 kHz.

# %%
speaker = clips.groupby("speaker")["emotion"].nunique().idxmax()
examples = clips[clips["speaker"] == speaker].drop_duplicates("emotion")
examples = examples.sort_values("emotion", key=lambda emotion: emotion.map(EMOTIONS.index))
rate = recipe.input.audio.sampling_rate
waveforms = [reading.prepare(path, **recipe.input.audio.model_dump()) for path in examples["path"]]
titles = examples["clip_id"].str.split("/", n=1).str[1]
plots.emotion_gallery(list(zip(waveforms, [rate] * len(examples), examples["emotion"], titles, strict=True)))

# %%
show.audio_players(examples, waveforms, rate, players)

# %% [markdown]
# ## The split
#
# Training clips fit the model, validation clips choose its settings, and test clips give the score.

# %%
split = split_of(recipe, clips, protocol, seed)
plots.split_sizes(split)

# %%
counts = split.groupby(["fold", "subset"]).agg(clips=("clip_id", "count"), speakers=("speaker", "nunique"))
counts.unstack("subset").reindex(columns=["train", "validation", "test", "enrolment"], level="subset")

# %% [markdown]
# ## The leak audit
#
# For each kind of leak: the number of test clips that a model could get right for a wrong reason. Red leaks invalidate
# a score; amber leaks limit its meaning.

# %%
leaks = audit(split)
show.audit_verdict(leaks)

# %%
show.audit_counts(leaks)

# %%
examples_of_leaks = leaks[leaks["clips"].fillna(0) > 0].set_index("leak")["examples"].str.split("; ")
pd.DataFrame(examples_of_leaks.explode()) if len(examples_of_leaks) else "No examples, because there is no leak."

# %% [markdown]
# ## What the model reads
#
# A model reads MFCC, layers of a pretrained encoder, or the waveform. These arrays are computed once and cached for the
# next run and the next notebook.

# %%
started = time.monotonic()
inputs = inputs_of(recipe, clips, protocol)
seconds = time.monotonic() - started
size = " × ".join(map(str, (len(inputs), *getattr(inputs, "shape", ())[1:])))
print(f"{size}: {recipe.features_label}, {recipe.input_label}")
print(f"{seconds:.1f} s, {len(clips) / seconds:,.0f} clips per second; cached arrays were only read")

# %% [markdown]
# ## Similar clips
#
# Each point is a clip, and clips with similar features lie close together. Clearer groups on the right than on the left
# mean that the features show the speaker more than the emotion; a split that shares speakers is then easy. (For
# fine-tuning, these are features of the encoder before training.)

# %%
overview = overview_of(recipe, clips, protocol)
rows = clips.sample(min(2000, len(clips)), random_state=seed).index
points = features.project(overview[rows])
plots.embedding_map(points, clips.loc[rows, "emotion"], clips.loc[rows, "speaker"])

# %% [markdown]
# The mean of each MFCC for each emotion, in standard deviations from the mean of all clips. Emotions with similar rows
# are hard to distinguish by these features.

# %%
plots.feature_heatmap(overview, clips["emotion"]) if not recipe.reads_encoder else "Not drawn: no acoustic features."

# %% [markdown]
# **Next:** `Model_Training` trains the recipe's network on this split.
