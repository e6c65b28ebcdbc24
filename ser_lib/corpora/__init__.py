"""The registry of corpora, and where the files of each one are.

To add a corpus, write one module like `savee.py` in this package: each module that defines `CORPUS` is found by
itself. A user's own corpus needs no module: the path of a CSV that lists its files may stand wherever a corpus is named
(`csv_corpus.py`).
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
    """Return a registered corpus, or a user's own.

    Args:
        name: one of `CORPORA`; or the path of a CSV (see `csv_corpus`), relative to the working folder, the checkout,
            `data_dir` or `$SER_DATA_DIR`, with `~` and `$VARIABLES`; or the name of a corpus that this process has
            read from a CSV.

    Raises:
        SerError: no corpus has this name (the message states the nearest one), or the CSV cannot be used.

    >>> get_corpus("ravdess").speakers
    24
    """
    if is_file_list(name):
        path = _find_csv(name, data_dir)
        corpus = csv_corpus.read_corpus(path)
        if corpus.name in CORPORA:
            raise SerError(
                f"{path} would be mixed up with {CORPORA[corpus.name].title}, whose name is {corpus.name!r} too: "
                "rename the file."
            )
        _CSV_CORPORA[corpus.name] = corpus
        return corpus
    known = CORPORA | _CSV_CORPORA
    if name in known:
        return known[name]
    raise SerError(
        f"unknown corpus {name!r}: {did_you_mean(name, known)}The corpora are {', '.join(known)}; your own is a CSV with the columns path, "
        "emotion and speaker."
    )


def known_corpus(name: str) -> Corpus | None:
    """The corpus of that name; None for names unknown to this process, such as that of a CSV read by another one."""
    return (CORPORA | _CSV_CORPORA).get(name)


def label(name: str) -> str:
    """A corpus's name for tables and pages: that of a CSV without its folders.

    >>> label("ravdess"), label("~/calls/mine.csv")
    ('ravdess', 'mine.csv')
    """
    return Path(name).name if is_file_list(name) else name


def lasting_name(name: str) -> str:
    """A name of the corpus that is also valid in other folders, where notebooks run and runs are read again.

    The relative path of a CSV in the checkout stays as it is; elsewhere it becomes absolute, or relative to `~`.
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
    """Return the folder that holds a corpus, downloading it where necessary.

    Searches `data_dir`/name, `$SER_DATA_DIR`/name and the copy bundled with this repository (only `sample` has one),
    then asks kagglehub, which reads a corpus in its cache without a network. Of a CSV corpus, the files may be
    anywhere: the folder is the deepest one that holds all of them.

    Raises:
        SerError: it is not found (the message states every way to get it), or its folder is empty.
    """
    corpus = get_corpus(name, data_dir)
    if corpus.files and corpus.folder:
        return corpus.folder
    candidates = _candidates(name, data_dir, os.environ.get("SER_DATA_DIR"))
    if corpus.folder:
        candidates.append(corpus.folder)
    folder = next((folder for folder in candidates if folder.is_dir()), None)
    if folder is None:
        folder = _download(corpus, data_dir)
        if data_dir:
            logger.warning("%s: not in %s, so taken from %s", name, data_dir, folder)
    folder = folder.absolute()
    if not any(folder.iterdir()):
        raise SerError(f"{name}: the folder {folder} is empty. Put the corpus there, or remove the folder.")
    return folder


def _find_csv(name: str, data_dir: str | Path | None) -> Path:
    """The absolute path of the CSV of that name."""
    path = Path(os.path.expandvars(name)).expanduser()
    candidates = [path.absolute() for path in _candidates(path, ".", data_dir, os.environ.get("SER_DATA_DIR"))]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise SerError(f"there is no corpus {name}: looked for {', '.join(map(str, dict.fromkeys(candidates)))}.")
    return found


def _candidates(name: str | Path, *folders: str | Path | None) -> list[Path]:
    """`name` in each folder that is set; relative folders are those of the working folder, then of the checkout.

    Notebooks run in a folder of their own, hence the checkout.
    """
    bases = [Path(folder).expanduser() for folder in folders if folder]
    return [place / name for base in bases for place in dict.fromkeys((Path.cwd() / base, project_dir() / base))]


def _download(corpus: Corpus, data_dir: str | Path | None) -> Path:
    environment = os.environ.get("SER_DATA_DIR")
    in_data_dir = f"{data_dir}/{corpus.name} is no folder" if data_dir else "data_dir is not given"
    in_environment = f"{environment}/{corpus.name} is no folder" if environment else "SER_DATA_DIR is not set"
    message = (
        f"{corpus.title} was not found. Do one of:\n"
        f"  1. put its files (like {corpus.example}, in any subfolders) under DIR/{corpus.name} and pass"
        f" data_dir=DIR ({in_data_dir});\n"
        f"  2. the same, and `export SER_DATA_DIR=DIR` ({in_environment});\n"
    )
    if corpus.handle is None:
        raise SerError(f"{message}  3. it comes with this repository: `git checkout -- {corpus.folder}`")
    try:
        import kagglehub

        return Path(kagglehub.dataset_download(corpus.handle))
    except Exception as error:  # of any kind (network, rights, disk): it is chained and quoted
        command = f"python -c \"import kagglehub; kagglehub.dataset_download('{corpus.handle}')\""
        raise SerError(
            f"{message}  3. with a network, download it once: `{command}`\n"
            f"     (tried just now: {type(error).__name__}: {error})\n"
            f"Its home is {corpus.url}, its licence {corpus.licence}."
        ) from error


# At the end, because the modules import from this one.
CORPORA.update(discover())
