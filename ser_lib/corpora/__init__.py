"""The registry of corpora, and where the files of each one are.

To add a corpus, write one module like `savee.py` in this package: each module that defines `CORPUS` is found. A user's
own corpus needs no module: the path of a CSV that lists its files (`csv_corpus`), or of a folder whose names state
emotion and speaker (`folder_corpus`), may stand wherever a corpus is named.
"""

import logging
import os
import pkgutil
from importlib import import_module
from pathlib import Path

from ser_lib.common.errors import SerError, did_you_mean
from ser_lib.common.files import project_dir, with_home
from ser_lib.corpora import csv_corpus, folder_corpus
from ser_lib.corpora.base import Corpus
from ser_lib.corpora.csv_files import is_file_list

logger = logging.getLogger(__name__)

FIRST = ("ravdess", "tess", "crema_d", "savee", "sample")  # the order in tables and messages; others follow, by name
CORPORA: dict[str, Corpus] = {}  # filled at the end of this module
_OWN_CORPORA: dict[str, Corpus] = {}  # the CSVs and folders that this process has read


def discover() -> dict[str, Corpus]:
    """The `CORPUS` of each module of this package that defines one, by its name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    corpora = {module.CORPUS.name: module.CORPUS for module in modules if hasattr(module, "CORPUS")}
    return {name: corpora[name] for name in (*FIRST, *sorted(corpora.keys() - {*FIRST}))}


def get_corpus(name: str, data_dir: str | Path | None = None, is_path: bool = False) -> Corpus:
    """Return a registered corpus, or a user's own; SerError where there is none, or its CSV or folder cannot be used.

    Args:
        name: one of `CORPORA`; or the path of a CSV (see `csv_corpus`) or a folder (see `folder_corpus`), relative to the
            working folder, the checkout, `data_dir` or `$SER_DATA_DIR`, with `~`; or the name of a CSV
            or folder that this process has read.
        is_path: a name that is not in `CORPORA` is a path, although a CSV or folder read before has that name too.

    >>> get_corpus("ravdess").speakers
    24
    """
    known = CORPORA if is_path else CORPORA | _OWN_CORPORA
    if name in known:
        return known[name]
    candidates = _candidates(with_home(name), ".", data_dir)
    path = next((path for path in candidates if path.is_file() if is_file_list(name)), None)
    path = path or next((path for path in candidates if path.is_dir()), None)
    if path is None and (is_file_list(name) or "/" in name):
        raise SerError(f"there is no corpus {name}: looked for {', '.join(map(str, candidates))}.")
    if path is None:
        nearest, names = did_you_mean(name, known), ", ".join(known)
        raise SerError(
            f"unknown corpus {name!r}: {nearest}The corpora are {names}; your own is a CSV of paths and labels, or a folder "
            "such as recordings/ with recordings/PERSON/EMOTION/*.wav."
        )
    corpus = folder_corpus.read_corpus(path) if path.is_dir() else csv_corpus.read_corpus(path)
    if corpus.name in CORPORA:
        title = CORPORA[corpus.name].title
        raise SerError(
            f"{path} would be mixed up with {title}, whose name is {corpus.name!r} too: rename the file or the folder."
        )
    _OWN_CORPORA[corpus.name] = corpus
    return corpus


def known_corpus(name: str) -> Corpus | None:
    """The corpus of that name; None for names unknown to this process, such as that of a CSV read by another one."""
    return (CORPORA | _OWN_CORPORA).get(name)


def label(name: str) -> str:
    """A corpus's name for tables and pages: that of a CSV or a folder without the folders that it lies in."""
    return Path(name).name


def lasting_name(name: str) -> str:
    """A corpus's name that is valid in all folders.

    A CSV or a folder outside the checkout is named by its absolute path, or from `~` on.
    """
    path = Path(name).absolute()
    is_own = path.is_file() if is_file_list(name) else name not in CORPORA and path.is_dir()
    if not is_own or Path(name).is_absolute() or path.resolve() == (project_dir() / name).resolve():
        return name
    return f"~/{path.relative_to(Path.home()).as_posix()}" if path.is_relative_to(Path.home()) else str(path)


def find_corpus(name: str, data_dir: str | Path | None = None) -> Path:
    """Return the folder that holds a corpus, downloading it where necessary; SerError where there is none, or no file.

    Searches `data_dir`/name, `$SER_DATA_DIR`/name and the copy bundled with this repository (only `sample` has one),
    then asks kagglehub, which reads its cache without a network. Of a CSV corpus: the deepest folder of all its files.
    """
    return folder_of(get_corpus(name, data_dir), data_dir)


def folder_of(corpus: Corpus, data_dir: str | Path | None = None) -> Path:
    """Return the folder that holds the files of a corpus, as `find_corpus` does for a corpus's name."""
    if corpus.files and corpus.folder:
        return corpus.folder
    name = corpus.name
    candidates = _candidates(name, data_dir) + ([corpus.folder] if corpus.folder else [])
    folder = next((folder for folder in candidates if folder.is_dir()), None)
    if folder is None:
        places = ", ".join(map(str, candidates)) or "any folder (neither data_dir nor SER_DATA_DIR is set)"
        message = (
            f"{corpus.title} was not found in {places}. Put its files (like {corpus.example}, in any subfolder) under "
            f"DIR/{corpus.name}, and pass data_dir=DIR (`--data-dir DIR`) or `export SER_DATA_DIR=DIR`"
        )
        if corpus.handle is None:
            bundled = f";\nor get it back with the repository: `git checkout -- {corpus.folder}`"
            raise SerError(message + (bundled if corpus.folder else "."))
        try:
            import kagglehub

            folder = Path(kagglehub.dataset_download(corpus.handle)).absolute()
        except Exception as error:  # of any kind (network, rights, disk): it is chained and quoted
            command = f"python -c \"import kagglehub; kagglehub.dataset_download('{corpus.handle}')\""
            message += (
                f";\nor download it once, with a network (tried now: {type(error).__name__}: {error}): `{command}`\n"
            )
            raise SerError(f"{message}Its home is {corpus.url}, its licence {corpus.licence}.") from error
        if data_dir:
            logger.warning("%s: not in %s, so taken from %s", name, data_dir, folder)
    if not any(folder.iterdir()):
        raise SerError(f"{name}: the folder {folder} is empty. Put the corpus there, or remove the folder.")
    return folder


def _candidates(name: str | Path, *folders: str | Path | None) -> list[Path]:
    """The absolute paths of `name` in the folders that are set, and in `$SER_DATA_DIR`."""
    # Relative to the working folder, then to the checkout, since notebooks run in a folder of their own.
    bases = [with_home(folder) for folder in (*folders, os.environ.get("SER_DATA_DIR")) if folder]
    return list(dict.fromkeys((place / base / name).absolute() for base in bases for place in (Path(), project_dir())))


# At the end, because the modules import from this one.
CORPORA.update(discover())
