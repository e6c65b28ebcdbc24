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
# This notebook shows the trained model's answers on the test clips: recognised and confused emotions, scores by
# speaker, and whether its probabilities can be trusted. If the audit is red, test clips or their speakers were in
# training. Then it predicts **your own voice**, over time, and shows the parts of a recording on which the answer
# depends.

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
from ser_lib.corpora.votes import votes_of
from ser_lib.evaluation import calibration, listeners, metrics
from ser_lib.inference import explain
from ser_lib.inference.predict import predict
from ser_lib.inference.run import load_run, run_folder
from ser_lib.inference.streaming import timeline
from ser_lib.protocols.splits import get_protocol
from ser_lib.recipes import load_recipe
from ser_lib.reports import notebook_chain, notebook_recorder, plots
from ser_lib.reports import notebook_display as show
from ser_lib.training import experiment

notebook_chain.agreement("Run_Model", globals())

# %%
recipe = load_recipe(recipe_name, variant, overrides)
folder = run_folder(recipe, protocol, seed, runs_dir)
if not folder.is_dir():  # Model_Training has not run, as in a new Colab session
    experiment.train(recipe, protocol, seed, data_dir, runs_dir)
run = load_run(folder)
predictions, tested = run.predictions, run.test_clips()
show.audit_verdict(run.audit)

# %% [markdown]
# ## Scores of each emotion
#
# Precision: the share of clips predicted as this emotion that are of it. Recall: the share of clips of this emotion
# that are predicted as it. UAR, the unweighted average recall, is the mean of the recalls.

# %%
metrics.per_class(predictions).round(3)

# %% [markdown]
# ## Confusions
#
# Each row is a true emotion: on the left in clips, on the right in per cent of the row. The diagonal on the right is
# the recall of each emotion.

# %%
plots.confusion_matrices(metrics.confusion(predictions))

# %% [markdown]
# ## Probabilities
#
# The mean probability of each emotion by true emotion; then twelve random clips.

# %%
plots.probability_by_truth(predictions)

# %%
plots.probability_plot(predictions.sample(min(12, len(predictions)), random_state=seed))

# %% [markdown]
# Confidence is the highest probability. Of the clips with a confidence of 80 %, 80 % should be correct. Below the
# dashed line, the model is overconfident.

# %%
plots.reliability(predictions, tested["speaker"], tested["corpus"])

# %% [markdown]
# ## Certain answers
#
# Where the highest probability is low, the model should say that it cannot tell. The threshold was chosen on validation
# speakers, so that nine of ten certain answers are right; the test clips show what it is worth on other new speakers.

# %%
show.certainty(run)

# %%
plots.coverage(
    calibration.coverage_curve(predictions, tested["speaker"], tested["corpus"]), run.metrics.get("certainty")
)

# %% [markdown]
# ## Ten wrong answers with the highest confidence

# %%
decisions = metrics.decisions(predictions)
decisions["truth → prediction"] = decisions["truth"] + " → " + decisions["prediction"]
if run.certain_from is not None:
    decisions["certain"] = decisions["confidence"] >= run.certain_from
columns = [name for name in ("truth → prediction", "confidence", "truth_probability", "certain") if name in decisions]
decisions = decisions.set_index("clip_id")
wrong = decisions[decisions["truth"] != decisions["prediction"]]
wrong.nlargest(10, "confidence")[columns].round(3)

# %% [markdown]
# ## Ten random answers

# %%
decisions.sample(min(10, len(decisions)), random_state=seed)[columns].round(3)

# %% [markdown]
# ## Scores by speaker and sex
#
# The mean over all speakers hides speakers for whom the model fails. The 95 % interval of a speaker is over this
# speaker's clips, that of a sex over its speakers; there is none with fewer than four of them.

# %%
chance = metrics.chance_level(tested["emotion"].nunique())
by_speaker = metrics.by_group(predictions, tested["speaker"]).rename_axis("speaker")
plots.scores_by_group(by_speaker, "UAR by speaker", chance)

# %%
by_sex = metrics.by_group(predictions, tested["sex"], tested["speaker"], tested["corpus"]).rename_axis("sex")
plots.scores_by_group(by_sex, "UAR by sex", chance)

# %% [markdown]
# ## Beside people
#
# For CREMA-D the votes of listeners who heard only the voice are known. Only 40 % of these votes name the acted
# emotion. *Of votes* is the mean share of a clip's votes that the model's answer got, and the Jensen-Shannon distance
# lies between the model's probabilities and the votes: 0 equal, 1 disjoint.

# %%
people = listeners.beside_listeners(predictions, votes_of(tested), tested["speaker"])
plots.model_and_people(people) if len(people) else show.sentences(
    "Not shown: no votes of listeners are known for these clips."
)

# %%
people.round(3) if len(people) else show.sentences("Not shown, as above.")

# %% [markdown]
# ## Twenty labels to doubt
#
# The test clips that their own label fits least. Listen to them: the label may be wrong, the actor unclear, or the
# model mistaken. The list needs cleanlab: `pip install "ser-lib[labels]"`.

# %%
show.doubtful_labels(run, data_dir)

# %% [markdown]
# ## Your own voice
#
# Open this notebook in Colab or Jupyter, set `source` in the next cell, and run it and the cells below again:
#
# - `"microphone"`: a recorder in the page. In Colab, Python receives the recording; in Jupyter, save it as a WAV file
#   beside this notebook, and set `source = "recording.wav"`. Some editors, such as VS Code, do not let a page record;
#   there, use a path.
# - `"upload"`: files from your computer, in Colab.
# - a path: an audio file, or a folder of them.
#
# While `source` is `None`, one clip of the bundled corpus for each emotion is shown. **These voices are synthetic**,
# made from rules by a speech synthesiser: they show how to read the pictures, not how well people are recognised.
#
# The players below contain their audio: clear the outputs before you share a notebook with your own voice.

# %%
source = None
recordings = notebook_recorder.read_source(source) or notebook_recorder.bundled_clips(run)
show.Html(f'<div class="players">{"".join(show.audio_player(*recording) for recording in recordings)}</div>')

# %% [markdown]
# The run's model predicts each recording. It may name an emotion for a cough or music too, and it was not trained on
# your microphone or room.

# %%
no_answer = show.sentences("Not shown: a speaker-adapted model needs many clips of a speaker at once.")
predictor = None if get_protocol(run.protocol).is_transductive else run.predictor()
if predictor:
    answers = predict(predictor, recordings, progress=False).rename(columns={"path": "clip_id"})
plots.probability_plot(answers[answers["error"] == ""]) if predictor else no_answer

# %% [markdown]
# The same as a table. *Certain* is empty where no threshold is known. A recording without speech has a reason in place of
# an answer.

# %%
answers.set_index("clip_id").round(3) if predictor else no_answer

# %% [markdown]
# ### After it has heard your voice
#
# Some models answer better after a few clips of a voice, without labels: about eight, each in another mood. Set
# `voice` to a folder of such clips. While it is `None`, the recordings above are enrolled themselves.

# %%
voice = None
clips_of_voice = notebook_recorder.read_source(voice) or recordings
show.after_enrolment(predictor, clips_of_voice, recordings) if predictor else no_answer

# %% [markdown]
# ## Emotion over time
#
# A longer recording is predicted in overlapping windows. Each answer is averaged with the answers before it, so a
# change appears with a delay. Grey: no speech. Hatched: not certain. Here all recordings above follow each other, with three seconds of
# silence between them.

# %%
plots.timeline(timeline(predictor, notebook_recorder.joined(recordings), progress=False)) if predictor else no_answer

# %% [markdown]
# ## Parts on which the answer depends
#
# This uses the short recording with the highest confidence. A quarter of a second of it is covered with the sound of
# its own pauses, and predicted again; then the next quarter. Where the line falls far below 0, the covered part speaks
# for the answer; where it rises, the part speaks against it.

# %%
surest = explain.surest(answers, recordings) if predictor else None
no_surest = show.sentences("Not shown: no short recording has an answer.")
plots.occlusion(explain.occlusion(predictor, surest)) if surest else no_surest

# %% [markdown]
# The same for frequencies: the line shows the change without the octave around each frequency. Pitch lies below 500 Hz,
# vowels differ between 300 and 3,000 Hz, and breath and hiss lie above that.

# %%
plots.occlusion(explain.occlusion(predictor, surest, over="frequency")) if surest else no_surest

# %% [markdown]
# **Limits.** The model was not trained on covered clips, so a part of each change comes from the covering itself. The
# parts that matter to this model need not matter to people. If a clip shows its emotion twice, covering one place
# changes little: a flat line does not mean that nothing matters.

# %% [markdown]
# ## What to read next
#
# - **How was this measured?** The header of this page names the protocol, and the project's documentation explains it.
#   Compare only scores of the same protocol on the same corpus.
# - **Is one model better than another?** `ser compare` tests both on the same clips. Two overlapping intervals do not
#   answer this question.
# - **Another protocol:** `make report RECIPE=… PROTOCOL=leave-one-speaker-out`, or `published` to repeat the claim.
# - **Your own corpus:** a CSV file with the columns path, emotion and speaker works in place of a corpus.
