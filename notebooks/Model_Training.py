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
# The recipe's model is trained on the training clips of each fold, and validation clips choose its epoch or settings;
# then the test clips are scored. Under the protocol `published`, a source may have used test clips earlier: the audit
# names these leaks. The result of training is one run folder.

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
import pandas as pd
from IPython.display import Markdown

from ser_lib.evaluation import metrics
from ser_lib.protocols.splits import get_protocol
from ser_lib.recipes import load_recipe
from ser_lib.reports import notebook_chain, plots
from ser_lib.reports import notebook_display as show
from ser_lib.training import experiment

recipe = load_recipe(recipe_name, variant, overrides)
notebook_chain.agreement("Model_Training", globals())

# %% [markdown]
# ## Train
#
# This is the longest cell. Finished folds are saved, so an interrupted run resumes with the next fold. On a CPU, the
# same seed, clips and versions reproduce all digits on the same kind of processor; docs/numbers.md states how far others
# differ.

# %%
run = experiment.train(recipe, protocol, seed, data_dir, runs_dir)
print(f"{recipe.title}\n{protocol}: {get_protocol(protocol).about}")
print(f"{len(run.metrics['by_fold'])} folds in {run.environment['seconds']:.0f} s on {run.environment['device']}")

# %% [markdown]
# ## The model
#
# Its size, and the share of it that was trained. Even a small network has many more numbers than there are clips,
# enough to memorise voices. Only speakers outside training therefore show whether it learned emotions.

# %%
show.model_size(run)

# %%
show.model_summary(run.model().module)

# %% [markdown]
# For a model with a weight for each layer of its encoder (`model.name=weighted-layers`): these weights.

# %%
weights = show.layer_weights(run)
Markdown("This model has no layer weights.") if weights is None else plots.layer_weights(weights)

# %% [markdown]
# ## Epoch by epoch
#
# The first fold. The dot marks the epoch of the weights that were kept.

# %%
first = run.history[run.history["fold"] == 0].drop(columns="fold").set_index("epoch")
first.insert(0, "kept", first.pop("best").map({True: "●", False: ""}))
excerpt = pd.concat([first.iloc[:5], first[first["kept"] != ""], first.iloc[-3:]]).round(4)
excerpt[~excerpt.index.duplicated()].sort_index()

# %% [markdown]
# All folds. Where the training score rises and the validation score does not, the model learns the training speakers
# instead of the emotions.

# %%
plots.learning_curves(run.history)

# %%
best = run.history[run.history["best"]].set_index("fold")
scores = pd.DataFrame(run.metrics["by_fold"]).rename_axis("fold")
best[["epoch", "train_accuracy", "validation_accuracy"]].join(scores).round(3)

# %% [markdown]
# ## The result
#
# All test clips of all folds together, with 95 % intervals. UAR (unweighted average recall) is the mean over the
# emotions of the share of their clips that was recognised. Chance, the UAR of a model that always gives the same
# answer, is one divided by the number of emotions.

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
# **Next:** `Run_Model` shows the model's answers: correct and wrong ones, scores by speaker, and their confidence.
