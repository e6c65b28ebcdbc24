"""The registry of corpora, and where the files of each one are.

To add a corpus, write one module like `savee.py` in this package: each module that defines `CORPUS` is found. A user's
own corpus needs no module: the path of a CSV that lists its files may stand wherever a corpus is named (`csv_corpus`).
"""

import logging
import os
import pkgutil
from importlib import import_module
from pathlib import Path

from ser_lib.common.errors import SerError, did_you_mean
from ser_lib.common.files import project_dir
from ser_lib.corpora import csv_corpus
from ser_lib.corpora.base import Corpus
from ser_lib.corpora.csv_files import is_file_list

logger = logging.getLogger(__name__)

FIRST = ("ravdess", "tess", "crema_d", "savee", "sample")  # the order in tables and messages; others follow, by name
CORPORA: dict[str, Corpus] = {}  # filled at the end of this module
_CSV_CORPORA: dict[str, Corpus] = {}  # those that this process has read


def discover() -> dict[str, Corpus]:
    """The `CORPUS` of each module of this package that defines one, by its name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    corpora = {module.CORPUS.name: module.CORPUS for module in modules if hasattr(module, "CORPUS")}
    return {name: corpora[name] for name in (*FIRST, *sorted(corpora.keys() - {*FIRST}))}


def get_corpus(name: str, data_dir: str | Path | None = None) -> Corpus:
    """Return a registered corpus, or a user's own; SerError where there is none, or its CSV cannot be used.

    Args:
        name: one of `CORPORA`; or the path of a CSV (see `csv_corpus`), relative to the working folder, the checkout,
            `data_dir` or `$SER_DATA_DIR`, with `~`; or the name of a CSV that this process has read.

    >>> get_corpus("ravdess").speakers
    24
    """
    if not is_file_list(name):
        known = CORPORA | _CSV_CORPORA
        if name in known:
            return known[name]
        nearest, names = did_you_mean(name, known), ", ".join(known)
        raise SerError(
            f"unknown corpus {name!r}: {nearest}The corpora are {names}; your own is a CSV of paths and labels."
        )
    candidates = _candidates(Path(name).expanduser(), ".", data_dir)
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise SerError(f"there is no corpus {name}: looked for {', '.join(map(str, candidates))}.")
    corpus = csv_corpus.read_corpus(path)
    if corpus.name in CORPORA:
        title = CORPORA[corpus.name].title
        raise SerError(f"{path} would be mixed up with {title}, whose name is {corpus.name!r} too: rename the file.")
    _CSV_CORPORA[corpus.name] = corpus
    return corpus


def known_corpus(name: str) -> Corpus | None:
    """The corpus of that name; None for names unknown to this process, such as that of a CSV read by another one."""
    return (CORPORA | _CSV_CORPORA).get(name)


def label(name: str) -> str:
    """A corpus's name for tables and pages: that of a CSV without its folders."""
    return Path(name).name if is_file_list(name) else name


def lasting_name(name: str) -> str:
    """A corpus's name that is valid in all folders: a CSV outside the checkout by its absolute path, or from `~` on."""
    path = Path(name).absolute()
    is_relative = is_file_list(name) and path.is_file() and not Path(name).is_absolute()
    if not is_relative or path.resolve() == (project_dir() / name).resolve():
        return name
    return f"~/{path.relative_to(Path.home()).as_posix()}" if path.is_relative_to(Path.home()) else str(path)


def find_corpus(name: str, data_dir: str | Path | None = None) -> Path:
    """Return the folder that holds a corpus, downloading it where necessary; SerError where there is none, or no file.

    Searches `data_dir`/name, `$SER_DATA_DIR`/name and the copy bundled with this repository (only `sample` has one),
    then asks kagglehub, which reads its cache without a network. Of a CSV corpus: the deepest folder of all its files.
    """
    corpus = get_corpus(name, data_dir)
    if corpus.files and corpus.folder:
        return corpus.folder
    candidates = _candidates(name, data_dir) + ([corpus.folder] if corpus.folder else [])
    folder = next((folder for folder in candidates if folder.is_dir()), None)
    if folder is None:
        places = ", ".join(map(str, candidates)) or "any folder (neither data_dir nor SER_DATA_DIR is set)"
        message = (
            f"{corpus.title} was not found in {places}. Put its files (like {corpus.example}, in any subfolder) under "
            f"DIR/{corpus.name}, and pass data_dir=DIR or `export SER_DATA_DIR=DIR`;\n"
        )
        if corpus.handle is None:
            raise SerError(f"{message}or get it back with the repository: `git checkout -- {corpus.folder}`")
        try:
            import kagglehub

            folder = Path(kagglehub.dataset_download(corpus.handle)).absolute()
        except Exception as error:  # of any kind (network, rights, disk): it is chained and quoted
            command = f"python -c \"import kagglehub; kagglehub.dataset_download('{corpus.handle}')\""
            message += (
                f"or download it once, with a network (tried now: {type(error).__name__}: {error}): `{command}`\n"
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
    bases = [Path(folder).expanduser() for folder in (*folders, os.environ.get("SER_DATA_DIR")) if folder]
    return list(dict.fromkeys((place / base / name).absolute() for base in bases for place in (Path(), project_dir())))


# At the end, because the modules import from this one.
CORPORA.update(discover())
