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
# # Run the model
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ser-lib/ser-lib/blob/main/notebooks/Run_Model.ipynb)
#
# What the trained model says of the test clips: which emotions it hears, which it confuses, for whom it works, and
# whether its probabilities can be believed. Where the audit is red, it knew some of these clips or voices before.
# Then **your own voice**: what it hears in that, moment by moment, and on what its answer rests.

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
from ser_lib.evaluation import metrics
from ser_lib.inference import explain
from ser_lib.inference.predict import predict
from ser_lib.inference.run import load_run, run_folder
from ser_lib.inference.streaming import timeline
from ser_lib.protocols.splits import get_protocol
from ser_lib.recipes import load_recipe
from ser_lib.reports import notebook_display as show
from ser_lib.reports import notebook_recorder, plots
from ser_lib.training import experiment

# %%
recipe = load_recipe(recipe_name, variant, overrides)
folder = run_folder(recipe, protocol, seed, runs_dir)
if not folder.is_dir():  # opened before Model_Training, or in a fresh Colab
    experiment.train(recipe, protocol, seed, data_dir, runs_dir)
run = load_run(folder)
predictions, tested = run.predictions, run.test_clips()
show.audit_verdict(run.audit)

# %% [markdown]
# ## Emotion by emotion
#
# Precision: of the clips called so, how many were so. Recall: of the clips that were so, how many were called so.

# %%
metrics.per_class(predictions).round(3)

# %% [markdown]
# ## What is taken for what
#
# Each row is a true emotion. Left the counts, right the shares of the row: the diagonal on the right is the recall
# of each emotion, and its mean is the UAR.

# %%
plots.confusion_matrices(metrics.confusion(predictions))

# %% [markdown]
# ## How sure is it?
#
# The mean probability that each emotion is given, by true emotion; then twelve clips, drawn at random.

# %%
plots.probability_by_truth(predictions)

# %%
plots.probability_plot(predictions.sample(min(12, len(predictions)), random_state=seed))

# %% [markdown]
# Of all clips for which the model was 80 % sure, were 80 % right? Points under the diagonal: it is too sure.

# %%
plots.reliability(predictions)

# %% [markdown]
# ## The ten worst
#
# Wrong, and most certain of it.

# %%
decisions = metrics.decisions(predictions)
decisions["actual → predicted"] = decisions["truth"] + " → " + decisions["prediction"]
columns = ["actual → predicted", "confidence", "truth_probability"]
decisions = decisions.set_index("clip_id")
wrong = decisions[decisions["truth"] != decisions["prediction"]]
wrong.nlargest(10, "confidence")[columns].round(3)

# %% [markdown]
# ## Ten at random

# %%
decisions.sample(min(10, len(decisions)), random_state=seed)[columns].round(3)

# %% [markdown]
# ## For whom does it work?
#
# A mean over speakers hides those for whom the model fails. Whiskers are 95 % intervals over that group's clips.

# %%
chance = metrics.chance_level(len(run.emotions))
by_speaker = metrics.by_group(predictions, tested["speaker"]).rename_axis("speaker")
plots.scores_by_group(by_speaker, "UAR by speaker", chance)

# %%
by_sex = metrics.by_group(predictions, tested["sex"], tested["speaker"]).rename_axis("sex")
plots.scores_by_group(by_sex, "UAR by sex", chance)

# %% [markdown]
# ## Try your own
#
# In the notebook, set `own` in the next cell, and run it and those below again:
#
# - `"microphone"`: a recorder in the page. In Colab its recording comes straight back; in Jupyter save it as a WAV
#   beside this notebook, and set `own = "recording.wav"`. Some editors, such as VS Code, let no page record: there, use
#   a path.
# - `"upload"`: files from your computer, in Colab.
# - a path: a file (WAV, FLAC, OGG or MP3), or a folder of them.
#
# While it is `None`, clips of the bundled corpus stand in, one for each emotion. **Their voices are synthetic**, made by
# a speech synthesiser from rules: they show how to read what follows, not how well people are understood.
#
# The players below hold their sound: clear the outputs before you pass on a notebook with your own voice in it.

# %%
own = None
mine = notebook_recorder.own_audio(own)
heard = notebook_recorder.bundled_clips(run) if mine is None else mine
show.Html(f'<div class="players">{"".join(show.audio_player(*recording) for recording in heard)}</div>')

# %% [markdown]
# What the first fold's model hears in each: all probabilities, and the highest by name. It has no answer but these
# emotions, not even "none of them": in a cough, or in music, it hears one as well. Nor does it know your microphone and
# your room, since it learned from others.

# %%
no_answer = "Not shown: a model of speaker-adapted needs many clips of a speaker at once."
predictor = None if get_protocol(run.protocol).is_transductive else run.predictor()
if predictor:
    answers = predict(predictor, heard, progress=False).rename(columns={"path": "clip_id"})
plots.probability_plot(answers[answers["error"] == ""]) if predictor else no_answer

# %% [markdown]
# ## Moment by moment
#
# A longer recording changes its tone, so it is heard window by window, each averaged with those before it: a change shows
# with some delay. Grey: nobody speaks. Here it is all of the recordings above, one after the other, with three seconds
# of silence between.

# %%
plots.timeline(timeline(predictor, notebook_recorder.joined(heard), progress=False)) if predictor else no_answer

# %% [markdown]
# ## Why?
#
# One short recording, the one that the model is surest of. A quarter of a second of it is covered with the sound of its own
# pauses, and the model is asked again; then the next quarter. Where the line falls far below 0, the answer rests on that
# stretch; where it rises, the stretch spoke against it.

# %%
surest = explain.surest(answers, heard) if predictor else None
plots.occlusion(explain.occlusion(predictor, surest)) if surest else "Not shown: no short recording has an answer."

# %% [markdown]
# The same for frequencies: the line shows what becomes of the answer without the octave around it. The pitch of a voice
# lies below 500 Hz, what tells its vowels apart between 300 and 3,000 Hz, breath and hiss above that.

# %%
plots.occlusion(explain.occlusion(predictor, surest, over="frequency")) if surest else "Not shown, as above."

# %% [markdown]
# **Do not read too much into it.** A covered clip is unlike anything that the model learned from, so a part of each
# change is its surprise at that. What matters to this model need not be what people hear the emotion by. And what a clip
# says twice is not missed once: a flat line does not mean that nothing matters.

# %% [markdown]
# ## What to read next
#
# - **How was this measured?** The header of this page names the protocol; the README says what each is good for.
#   Only scores under the same protocol, on the same corpus, may be compared.
# - **Is the difference to another model real?** If the intervals overlap, this page cannot tell.
# - **Another protocol:** `make report RECIPE=… PROTOCOL=leave-one-speaker-out`, or `published` to see the claim.
# - **Your own corpus:** a CSV with the columns path, emotion and speaker stands wherever a corpus does; the README shows
#   it.
