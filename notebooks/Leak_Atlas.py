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
# # Atlas of published splits
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ser-lib/ser-lib/blob/main/notebooks/Leak_Atlas.ipynb)
#
# Benchmarks and toolkits publish which clips of a corpus train a model and which test it. These lists are public text
# files: this page reads them with the audit that `ser audit` applies to any split.

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
anew = False  # read the lists anew, of $SER_ATLAS_DIR or GitHub, in place of reports/atlas.csv
reports_dir = None  # the folder of atlas.csv; None: reports/ in the checkout

# %%
from IPython.display import Markdown, display

from ser_lib.reports import atlas_page
from ser_lib.reports import notebook_display as show
from ser_lib.studies import atlas
from ser_lib.studies.atlas import worth as atlas_worth

# %% tags=["log"]
if anew:
    atlas.write_table(atlas.atlas_table(), reports_dir)
table = atlas.read_table(reports_dir)

# %%
atlas_page.show_summary(table)

# %% [markdown]
# ## Which splits share speakers or files
#
# One row for each corpus, one column for each benchmark. **✗ red**: test speakers are in training, or test clips are
# listed in training or in validation. **✓ green**: neither of these leaks. **? grey**: unknown from what was read. The
# numbers: how many of the test speakers are in training. *code*: the verdict comes from the code that makes the folds,
# without counts. A click on a cell shows the counts, examples, what the benchmark itself says, and the list that was
# read, with its commit. The audio was not compared, because the lists contain no audio. *Heard by*: models whose
# authors name the corpus as training data; *perhaps*: the authors name several corpora and used only some of them.

# %%
atlas_page.show_matrix(table)

# %% [markdown]
# Who speaks is read from the lists where they say it, else from the file names. A split that shares speakers may be meant
# for another purpose, such as a model that is made for known voices; its score then answers another question than that of
# a green split.

# %% [markdown]
# ## What a shared speaker is worth
#
# The same model on the same test clips, trained twice on equally many clips of each emotion from the published training
# list: once without the tested speakers, and once with clips of all speakers, as the list has them. Measured are splits
# that share speakers, of corpora whose audio was at hand. Brackets: each tested speaker's own difference where they are few.

# %%
worth = atlas_worth.read_table(reports_dir)
if worth is None:
    print(
        "Not measured here: `ser atlas --encoder openai/whisper-base` does so for the corpora whose audio is at hand."
    )
else:
    display(Markdown("\n".join(f"- {sentence}" for sentence in atlas_page.worth_sentences(worth))))
    print("Model:", ", ".join(worth["model"].unique()))

# %%
for name in worth["mechanism"].unique() if worth is not None else ():
    show.mechanism(worth, name)

# %% [markdown]
# ## What models have heard
#
# A score on a corpus that a model was trained on is not zero-shot. What the authors of models state:

# %%
atlas_page.show_heard()

# %% [markdown]
# Check your own split in the same way: `ser audit my-split.csv`, or [in each change of your
# repository](https://github.com/ser-lib/ser-lib/blob/main/docs/audit-action.md).
