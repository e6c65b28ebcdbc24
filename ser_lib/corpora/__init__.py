"""The corpora: the registry, and where each one's files are.

To add a corpus, write one module like `savee.py` and add one line to `CORPORA`. A corpus of one's own needs neither:
wherever a corpus is named, a CSV that lists its files may stand (`csv_corpus.py`).
"""

import logging
import os
from difflib import get_close_matches
from pathlib import Path

from ser_lib.common.errors import SerError
from ser_lib.common.files import project_dir
from ser_lib.corpora import crema_d, csv_corpus, ravdess, sample, savee, tess
from ser_lib.corpora.base import Corpus
from ser_lib.corpora.csv_files import is_file_list

logger = logging.getLogger(__name__)

CORPORA: dict[str, Corpus] = {
    "ravdess": ravdess.CORPUS,
    "tess": tess.CORPUS,
    "crema_d": crema_d.CORPUS,
    "savee": savee.CORPUS,
    "sample": sample.CORPUS,
}


_OWN: dict[str, Corpus] = {}  # those that this process has read from a CSV


def get_corpus(name: str, data_dir: str | Path | None = None) -> Corpus:
    """Return a registered corpus, or one of the reader's own.

    Args:
        name: one of `CORPORA`; or the path of a CSV (see `csv_corpus`), relative to the working folder, the checkout,
            `data_dir` or `$SER_DATA_DIR`, with `~` and `$VARIABLES`; or the name of a corpus that this process has
            read from a CSV.

    Raises:
        SerError: no corpus has this name, and the message names the nearest; or the CSV cannot be used.

    >>> get_corpus("ravdess").speakers
    24
    """
    if is_file_list(name):
        path = _find_list(name, data_dir)
        corpus = csv_corpus.read_corpus(path)
        if corpus.name in CORPORA:
            raise SerError(
                f"{path} would be mixed up with {CORPORA[corpus.name].title}, whose name is {corpus.name!r} too: "
                "rename the file."
            )
        _OWN[corpus.name] = corpus
        return corpus
    known = CORPORA | _OWN
    if name in known:
        return known[name]
    near = get_close_matches(str(name).lower(), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise SerError(
        f"unknown corpus {name!r}: {hint}The corpora are {', '.join(known)}; your own is a CSV with the columns path, "
        "emotion and speaker."
    )


def known_corpus(name: str) -> Corpus | None:
    """`get_corpus` by its name alone; None where this process does not know it, such as a CSV of an earlier one."""
    return (CORPORA | _OWN).get(name)


def label(name: str) -> str:
    """A corpus as tables and pages name it: a CSV without its folders.

    >>> label("ravdess"), label("~/calls/mine.csv")
    ('ravdess', 'mine.csv')
    """
    return Path(name).name if is_file_list(name) else name


def lasting_name(name: str) -> str:
    """A corpus by a name that leads to it from other folders too, where notebooks run and runs are read again.

    A relative CSV stays as it is where it lies in the checkout, and is told from the root or from `~` elsewhere.
    """
    path = Path(name)
    if not is_file_list(name) or path.is_absolute() or not path.is_file():
        return name
    in_checkout = project_dir() / path
    if in_checkout.is_file() and in_checkout.samefile(path):
        return name
    path = path.absolute()
    return f"~/{path.relative_to(Path.home()).as_posix()}" if path.is_relative_to(Path.home()) else str(path)


def find_corpus(name: str, data_dir: str | Path | None = None) -> Path:
    """Return the folder that holds a corpus, downloading it where need be.

    Looks at `data_dir`/name, `$SER_DATA_DIR`/name, the copy bundled with this repository (only `sample` has
    one), then asks kagglehub, whose cache answers without a network once a corpus is in it. The files of a corpus of
    one's own may lie anywhere: then it is the folder that all of them share.

    Raises:
        SerError: it is nowhere (the message says every way to get it), or its folder is empty.
    """
    corpus = get_corpus(name, data_dir)
    if corpus.files:
        return corpus.folder
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


def _find_list(name: str, data_dir: str | Path | None) -> Path:
    """The CSV of that name, absolute."""
    written = Path(os.path.expandvars(name)).expanduser()
    bases = ["", data_dir, os.environ.get("SER_DATA_DIR")]
    candidates = [place / written for base in bases if base is not None for place in _places(base)]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        looked = ", ".join(dict.fromkeys(str(path.absolute()) for path in candidates))
        raise SerError(f"there is no corpus {name}: looked for {looked}.")
    return path.absolute()


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
