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
# # Model training
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ser-lib/ser-lib/blob/main/notebooks/Model_Training.ipynb)
#
# The recipe's network learns on the training clips of every fold, and keeps its best epoch on the validation clips;
# then the test clips are scored. Under `published` a source may have done otherwise: what that leaks, the audit says.
# All that training leaves is one run folder.

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
import pandas as pd
from IPython.display import Markdown

from ser_lib.evaluation import metrics
from ser_lib.protocols.splits import get_protocol
from ser_lib.recipes import load_recipe
from ser_lib.reports import notebook_display as show
from ser_lib.reports import plots
from ser_lib.training import experiment

recipe = load_recipe(recipe_name, variant, overrides)
print(f"{recipe.title}\n{protocol}: {get_protocol(protocol).about}")

# %% [markdown]
# ## Train
#
# The longest cell. Each finished fold is kept, so a run that was interrupted goes on where it stopped. With the
# same seed, clips and versions it gives the same numbers to the last digit on a CPU.

# %%
run = experiment.train(recipe, protocol, seed, data_dir, runs_dir)
print(f"{len(run.metrics['by_fold'])} folds in {run.environment['seconds']:.0f} s on {run.environment['device']}")

# %% [markdown]
# ## The model
#
# How much of it there is, and how much of that learned. Even a small network holds many times as many numbers as there
# are clips: enough to remember voices, which is why only speakers that it never heard can tell whether it learned
# emotions.

# %%
show.model_size(run)

# %%
show.model_summary(run.model().module)

# %% [markdown]
# Where a model weighs the layers of its encoder (`model.name=weighted-layers`), this shows which ones it found useful.

# %%
weights = show.layer_weights(run)
Markdown("This model weighs no layers.") if weights is None else plots.layer_weights(weights)

# %% [markdown]
# ## Epoch by epoch
#
# The first fold's table; the dot marks the epoch whose weights were kept.

# %%
first = run.history[run.history["fold"] == 0].drop(columns="fold").set_index("epoch")
first.insert(0, "kept", first.pop("best").map({True: "●", False: ""}))
shown = pd.concat([first.iloc[:5], first[first["kept"] != ""], first.iloc[-3:]]).round(4)
shown[~shown.index.duplicated()].sort_index()

# %% [markdown]
# All folds. Where the training line goes on rising and the validation line does not, the network has begun to
# learn the training speakers instead of the emotions.

# %%
plots.learning_curves(run.history)

# %%
best = run.history[run.history["best"]].set_index("fold")
scores = pd.DataFrame(run.metrics["by_fold"]).rename_axis("fold")
best[["epoch", "train_accuracy", "validation_accuracy"]].join(scores).round(3)

# %% [markdown]
# ## The result
#
# All test clips of all folds together, with 95 % intervals. UAR is the mean of the emotions' recalls: what a model
# that always says the same would reach is one divided by the number of emotions.

# %%
overall = run.metrics["overall"]
table = pd.DataFrame(
    {
        name: [overall[name], overall[f"{name}_low"], overall[f"{name}_high"]]
        for name in ("uar", "accuracy", "macro_f1")
    },
    index=["score", "low", "high"],
).T
table.assign(chance=metrics.chance_level(len(run.emotions))).round(3)

# %%
pd.DataFrame(run.metrics["by_corpus"]).T[["uar", "uar_low", "uar_high", "n_test", "test_speakers"]].round(3)

# %% [markdown]
# **Next:** `Run_Model` looks at what the model gets right and wrong, for whom, and how sure it is.
