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
# # On your voice
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ser-lib/ser-lib/blob/main/notebooks/On_Your_Voice.ipynb)
#
# A model of emotion in speech is most often wrong on a voice that it has not heard. This page shows how much better it
# answers after it has heard a few recordings of that voice, without being told their emotions: **enrolment**. All
# speakers below are unheard: none of their clips was in the training data of the model that answers. *All corpora*: other
# speakers of the tested corpus are in the training data. *Other corpora*: no clip of the tested corpus is in
# the training data, just as no clip of your voice and your microphone is.

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
reports_dir = None  # the folder of voice.csv; None: reports/ in the checkout

# %%
from ser_lib.reports import notebook_display as show
from ser_lib.reports import plots, voice_page
from ser_lib.studies import voice

table = voice.read_table(reports_dir)
# Of each study, the rows in which somebody is enrolled.
studies = dict(list(table[table["k"] != 0].groupby("study", sort=False)))

# %%
show.sentences(voice_page.summary(table))

# %% [markdown]
# **What to do.** Read eight short lines, each in another mood, and enrol them: `ser enrol line-*.wav --speaker me`, then
# `ser predict voice.wav --speaker me`; or open `ser demo`, which shows eight lines to read. What is kept is the mean of
# the model's inputs, some thousand numbers, and no audio.
#
# **What the numbers mean.** UAR, unweighted average recall, is the mean over the emotions of the share of their clips
# that is recognised. Guessing gives one divided by the number of tested emotions: 0.125 for RAVDESS under *all
# corpora*, with eight emotions, and 0.143 otherwise, with seven. A point is a hundredth of UAR. The intervals hold the
# true value in 95 of 100 such measurements; they are over speakers, and those of a difference are paired: the same
# clips are answered with and without enrolment. With fewer than four speakers there is none.
#
# ## How many clips
#
# Each speaker's clips are divided at random into two halves. The model hears some clips of one half, without labels, and
# answers the other half; then the halves change places. All of this is drawn three times. *Half* is all clips of the
# half: about thirty in RAVDESS, sixty in SAVEE, and seven hundred in TESS.

# %%
plots.enrolment_curves(table[table["study"] == "number"])

# %% [markdown]
# ## Which moods
#
# From clips in one mood only, the model cannot separate the voice from the mood. If the model predicts the same emotion
# for more than two of the clips, these clips together therefore weigh as much as two. RAVDESS has four neutral clips of
# each speaker, so that none of them is left to be tested after four were enrolled.

# %%
plots.enrolment_differences(studies["moods"], "What clips of few moods are worth")

# %%
show.sentences(voice_page.verdicts(studies["moods"]))

# %%
voice_page.differences(studies["moods"])

# %% [markdown]
# ## Clips of somebody else
#
# Eight clips of another speaker of the same corpus: what happens if the wrong person is enrolled. A profile also
# describes the microphone and the room. Such clips can therefore help where the microphone and the room are new to the
# model.

# %%
show.sentences(voice_page.verdicts(studies["speaker"]))

# %%
voice_page.differences(studies["speaker"])

# %% [markdown]
# ## Another microphone
#
# Up to 32 drawn clips of each speaker, as they were recorded, through a simulated telephone line, and in a simulated
# room with 0.3 s of reverberation. Eight clips are enrolled. The difference is to the same answers without enrolment.

# %%
plots.enrolment_differences(studies["microphone"], "What clips through another microphone are worth")

# %%
show.sentences(voice_page.verdicts(studies["microphone"]))

# %%
voice_page.differences(studies["microphone"])

# %% [markdown]
# ## Learning while listening
#
# A long recording of one person enrols itself: `ser predict --timeline --learn-speaker`. Here a speaker's clips in
# random order stand for a recording, ten times for each speaker, and the profile at each clip is that of all clips
# before it. `--learn-speaker` counts the window itself as well, which the table measures too.

# %%
listening = studies["listening"]
before = listening[~listening["condition"].str.contains("itself")]
plots.enrolment_differences(before, "What the clips heard so far are worth, by how many they are")

# %%
show.sentences(voice_page.listening(table))

# %% [markdown]
# ## Limits
#
# The speakers are actors in quiet rooms, and their moods are acted. Of CREMA-D only about two clips of each speaker
# were at hand, too few to enrol and test, so CREMA-D is used for training alone. The telephone and the room are
# simulated. The form of the model and its layers were compared on the speakers that are tested here. All numbers lie in
# `reports/voice.csv`; `ser voice` measures them again.
