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
# Before a model learns anything: which clips are there, who speaks in them, how they are split into training and
# test, and **what that split gives away**. Most claims of 99 % in speech emotion recognition are decided on this
# page, not in the model.

# %%
# In Colab this fetches the project and installs it; everywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    get_ipython().system("git clone --depth 1 https://github.com/ser-lib/ser-lib.git /content/ser-lib")
    get_ipython().system("pip install --quiet -e /content/ser-lib")
    sys.path.insert(0, "/content/ser-lib")

# %% tags=["parameters"]
recipe_name = "demo"  # one of `ser_lib.recipes.recipe_names()`, or a path to your own recipe.yaml
protocol = "speaker"  # how train and test are split; the table of protocols is in the README
variant = "stated"  # "as-run": what the source's notebook did otherwise
seed = 0
# Fields of the recipe to change, such as ["training.epochs=3", "corpora=[ravdess]"].
overrides = []
data_dir = None  # a folder with one folder a corpus, such as "/content/drive/MyDrive/archive"
runs_dir = None  # where run folders go; None: runs/ in the checkout

# %%
if "google.colab" in sys.modules and "/content/drive" in f"{data_dir} {runs_dir}":
    from google.colab import drive

    drive.mount("/content/drive")

# %%
import time

import pandas as pd
from IPython.display import Markdown

from ser_lib.audio import features, reading
from ser_lib.corpora import find_corpus, get_corpus
from ser_lib.corpora.labels import EMOTIONS
from ser_lib.protocols.leak_audit import audit
from ser_lib.recipes import dump_recipe, load_recipe
from ser_lib.recipes.inputs import clips_of, inputs_of, overview_of, split_of
from ser_lib.reports import notebook_display as show
from ser_lib.reports import plots

pd.set_option("display.max_colwidth", None)

# %% [markdown]
# ## The recipe
#
# One YAML file holds the whole experiment. Any line of it can be changed with `overrides` above, or
# `--set key.path=value` in a shell.

# %%
recipe = load_recipe(recipe_name, variant, overrides)
Markdown(f"```yaml\n{dump_recipe(recipe)}```")

# %% [markdown]
# ## The clips
#
# One table, one row a clip. Files that cannot be read, silent clips and copies of the same audio are left out,
# each with a line that counts them; only the protocol `published` keeps copies, where its source kept them.

# %%
clips = clips_of(recipe, protocol, data_dir)
clips.drop(columns=["path", "audio_hash"]).sample(5, random_state=seed).set_index("clip_id").round(2)

# %% [markdown]
# Where they are, and how much there is:

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
# How often each emotion occurs, by corpus. Where a bar is much shorter than the others, accuracy flatters the
# model; the unweighted average recall (UAR) does not.

# %%
plots.class_counts(clips)

# %% [markdown]
# The same by speaker. A blank field means that a speaker never shows that emotion.

# %%
plots.speaker_counts(clips)

# %%
plots.durations(clips)

# %% [markdown]
# ## Listen and look
#
# One clip of each emotion, all from one speaker, as the model gets it. Look at how far the pitch lines lie apart
# (anger, surprise), how fast they move, and how much energy there is above 3 kHz.

# %%
speaker = clips.groupby("speaker")["emotion"].nunique().idxmax()
examples = clips[clips["speaker"] == speaker].drop_duplicates("emotion")
examples = examples.sort_values("emotion", key=lambda emotion: emotion.map(EMOTIONS.index))
rate = recipe.input.audio.sampling_rate
waveforms = [reading.prepare(path, **recipe.input.audio.model_dump()) for path in examples["path"]]
titles = examples["clip_id"].str.split("/", n=1).str[1]
plots.emotion_gallery(list(zip(waveforms, [rate] * len(examples), examples["emotion"], titles, strict=True)))

# %%
show.audio_players(examples, waveforms, rate)

# %% [markdown]
# ## The split
#
# Who is learned from, who chooses the best epoch (validation), and who is tested.

# %%
split = split_of(recipe, clips, protocol, seed)
plots.split_sizes(split)

# %%
counts = split.groupby(["fold", "subset"]).agg(clips=("clip_id", "count"), speakers=("speaker", "nunique"))
counts.unstack("subset").reindex(columns=["train", "validation", "test"], level="subset")

# %% [markdown]
# ## The audit: what does this split leak?
#
# For each kind of leak: how many test clips a model could answer for the wrong reason. Red invalidates a score;
# amber limits what it means.

# %%
leaks = audit(split)
show.audit_verdict(leaks)

# %%
show.audit_counts(leaks)

# %%
found = leaks[leaks["clips"].fillna(0) > 0].set_index("leak")["examples"].str.split("; ")
pd.DataFrame(found.explode()) if len(found) else "No examples: nothing was found."

# %% [markdown]
# ## What the model reads
#
# MFCC, the layers of a pretrained encoder, or the waveform itself. Arrays are computed once and kept in the store: the
# next run, and the next notebook, read them.

# %%
started = time.monotonic()
inputs = inputs_of(recipe, clips, protocol)
seconds = time.monotonic() - started
size = " × ".join(map(str, (len(inputs), *getattr(inputs, "shape", ())[1:])))
print(f"{size}: {recipe.features_label}, {recipe.input_label}")
print(f"{seconds:.1f} s, {len(clips) / seconds:,.0f} clips a second; what lay in the store cost no more than reading")

# %% [markdown]
# ## Who lies beside whom
#
# Each point is a clip, and clips that these features take for alike lie together. If the groups on the right are clearer
# than those on the left, the features tell first of all who speaks: a split that shares speakers is then easy. (For a
# model that is fine-tuned, this is its encoder before that.)

# %%
overview = overview_of(recipe, clips, protocol)
shown = clips.sample(min(2000, len(clips)), random_state=seed).index
points = features.project(overview[shown])
plots.embedding_map(points, clips.loc[shown, "emotion"], clips.loc[shown, "speaker"])

# %% [markdown]
# The mean of each MFCC for each emotion, in standard deviations from the mean over all clips. Rows that look alike are
# emotions that these features can hardly tell apart.

# %%
plots.feature_heatmap(overview, clips["emotion"]) if not recipe.reads_encoder else "Not drawn: no acoustic features."

# %% [markdown]
# **Next:** `Model_Training` trains the recipe's network on this split.
