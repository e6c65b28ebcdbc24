"""The corpora: the registry, and where each one's files are.

To add a corpus, write one module like `savee.py` and add one line to `CORPORA`.
"""

import logging
import os
from difflib import get_close_matches
from pathlib import Path

from ser_lib.corpora import crema_d, ravdess, sample, savee, tess
from ser_lib.corpora.base import Corpus
from ser_lib.errors import SerError
from ser_lib.files import project_dir

logger = logging.getLogger(__name__)

CORPORA: dict[str, Corpus] = {
    "ravdess": ravdess.CORPUS,
    "tess": tess.CORPUS,
    "crema_d": crema_d.CORPUS,
    "savee": savee.CORPUS,
    "sample": sample.CORPUS,
}


def get_corpus(name: str) -> Corpus:
    """Return a registered corpus.

    Raises:
        SerError: no corpus has this name; the message names the nearest.

    >>> get_corpus("ravdess").speakers
    24
    """
    if name in CORPORA:
        return CORPORA[name]
    near = get_close_matches(str(name).lower(), CORPORA, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise SerError(f"unknown corpus {name!r}: {hint}The corpora are {', '.join(CORPORA)}.")


def find_corpus(name: str, data_dir: str | Path | None = None) -> Path:
    """Return the folder that holds a corpus, downloading it where need be.

    Looks at `data_dir`/name, `$SER_DATA_DIR`/name, the copy bundled with this repository (only `sample` has
    one), then asks kagglehub, whose cache answers without a network once a corpus is in it.

    Raises:
        SerError: it is nowhere (the message says every way to get it), or its folder is empty.
    """
    corpus = get_corpus(name)
    environment = os.environ.get("SER_DATA_DIR")
    candidates = [place / name for base in (data_dir, environment) if base for place in _places(base)]
    if corpus.folder:
        candidates.append(corpus.folder)
    folder = next((folder for folder in candidates if folder.is_dir()), None)
    if folder is None:
        folder = _download(corpus, data_dir, environment)
        if data_dir:
            logger.warning("%s: not in %s, so taken from %s", name, data_dir, folder)
    folder = folder.absolute()
    if not any(folder.iterdir()):
        raise SerError(f"{name}: the folder {folder} is empty. Put the corpus there, or remove the folder.")
    return folder


def _places(base: str | Path) -> list[Path]:
    """A relative folder is looked for in the working folder, then in the checkout: notebooks run in their own."""
    base = Path(base).expanduser()
    return [base] if base.is_absolute() else [base, project_dir() / base]


def _download(corpus: Corpus, data_dir: str | Path | None, environment: str | None) -> Path:
    where = f"{data_dir}/{corpus.name} is no folder" if data_dir else "data_dir is not given"
    and_where = f"{environment}/{corpus.name} is no folder" if environment else "SER_DATA_DIR is not set"
    message = (
        f"{corpus.title} was not found. Do one of:\n"
        f"  1. put its files (like {corpus.example}, in any subfolders) under DIR/{corpus.name} and pass"
        f" data_dir=DIR ({where});\n"
        f"  2. the same, and `export SER_DATA_DIR=DIR` ({and_where});\n"
    )
    if corpus.handle is None:
        raise SerError(f"{message}  3. it comes with this repository: `git checkout -- {corpus.folder}`")
    try:
        import kagglehub

        return Path(kagglehub.dataset_download(corpus.handle))
    except Exception as error:  # whatever it is (network, rights, disk), it stays chained and is quoted
        command = f"python -c \"import kagglehub; kagglehub.dataset_download('{corpus.handle}')\""
        raise SerError(
            f"{message}  3. with a network, download it once: `{command}`\n"
            f"     (tried just now: {type(error).__name__}: {error})\n"
            f"Its home is {corpus.url}, its licence {corpus.licence}."
        ) from error
