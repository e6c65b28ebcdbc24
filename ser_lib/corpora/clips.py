"""The clip table: one row a clip, made from a corpus's files, checked, and without duplicates.

All other packages work on this table; `COLUMNS` states what a row holds.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ser_lib.audio import decoding, reading
from ser_lib.audio.decoding import shown
from ser_lib.common import cache
from ser_lib.common.errors import SerError
from ser_lib.common.files import source_hash
from ser_lib.corpora import CORPORA, folder_of, get_corpus
from ser_lib.corpora.base import Corpus
from ser_lib.corpora.csv_files import first_of, plain
from ser_lib.corpora.labels import EMOTIONS, in_order

logger = logging.getLogger(__name__)

COLUMNS = [
    "clip_id",  # "ravdess/03-01-05-01-01-01-01"; a copy that was kept has "#2", "#3" after it
    "corpus",
    "path",  # absolute
    "speaker",  # "ravdess-01": never shared between corpora
    "sex",  # female, male; unknown where a CSV corpus does not state it
    "emotion",
    "intensity",
    "sentence",
    "seconds",
    "sampling_rate",  # Hz, of the file
    "audio_hash",  # of the decoded samples: WAV and FLAC of the same audio agree
]


def load_clips(
    corpora: str | list[str], data_dir: str | Path | None = None, keep_duplicates: bool = False, progress: bool = True
) -> pd.DataFrame:
    """Build the clip table of one or more corpora, in the order given, then by path.

    Files that cannot be used, copies and missing clips are counted in one logged line each. Durations and hashes are
    cached, so that the next call decodes only files whose size or time has changed.

    Args:
        corpora: names of registered corpora, and paths of CSV files or folders of a user's own; see `get_corpus`.
        data_dir: a folder that holds the corpora as `data_dir`/ravdess and so on; see `find_corpus`.
        keep_duplicates: keep copies, as some sources did. Otherwise, of clips with the same name or audio, only the
            first is kept, and none where their labels differ.

    Returns:
        a table with `COLUMNS`; its `attrs["shortfall"]` maps each incomplete corpus to (found, expected).

    Raises:
        SerError: a corpus is not found, or has no usable clip; two have one name, or are a user's own and share a speaker.
    """
    names = list(dict.fromkeys([corpora] if isinstance(corpora, str) else corpora))
    if not names:
        raise SerError(f"no corpus was asked for. The corpora are {', '.join(CORPORA)}.")
    chosen = [get_corpus(name, data_dir, is_path=True) for name in names]
    corpus_names = [corpus.name for corpus in chosen]
    if len(set(corpus_names)) < len(names):
        text = f"{', '.join(names)} are called the same, {', '.join(corpus_names)}"
        raise SerError(f"{text}: name each once, rename a file.")
    _refuse_shared_speakers([corpus for corpus in chosen if corpus.files])
    shortfall: dict[str, tuple[int, int]] = {}
    tables = [_load_corpus(corpus, folder_of(corpus, data_dir), shortfall, progress) for corpus in chosen]
    clips = pd.concat(tables, ignore_index=True)
    if not keep_duplicates:
        clips = _drop_duplicates(clips)
    copy = clips.groupby("clip_id").cumcount()
    clips["clip_id"] += ("#" + (copy + 1).astype(str)).where(copy > 0, "")
    clips.attrs["shortfall"] = shortfall
    return clips[COLUMNS]


def _refuse_shared_speakers(corpora: Sequence[Corpus]) -> None:
    """Raise SerError where two CSV corpora name the same speaker, who would count as two people in a split."""
    speakers = {}
    for corpus in corpora:
        speakers[corpus.name] = {plain(facts["speaker"]) for facts in map(corpus.parse, corpus.files) if facts}
    for first, second in combinations(speakers, 2):
        shared = sorted(speakers[first] & speakers[second])
        if shared:
            names = f"{first_of(shared, 3)} speak{'s' * (len(shared) == 1)}"
            raise SerError(f"{names} in both {first} and {second}: put both lists into one CSV, or name them apart.")


def check_clips(clips: pd.DataFrame) -> None:
    """Raise SerError if a table is no clip table: columns or all rows missing, an id twice, an emotion unknown."""
    missing = [column for column in COLUMNS if column not in clips.columns]
    if missing:
        raise SerError(f"the clip table lacks {', '.join(missing)}; it has {', '.join(map(str, clips.columns))}.")
    if clips.empty:
        raise SerError("the clip table has no rows: nothing was loaded, or everything was left out.")
    repeated = clips["clip_id"][clips["clip_id"].duplicated()]
    if len(repeated):
        raise SerError(f"clip_id must be unique, but {len(repeated)} rows repeat one, such as {repeated.iloc[0]}.")
    unknown = ", ".join(sorted(set(map(str, clips["emotion"])) - set(EMOTIONS)))
    if unknown:
        raise SerError(f"unknown emotions {unknown}: use `labels.to_emotion`; they are {', '.join(EMOTIONS)}.")


def select_emotions(clips: pd.DataFrame, emotions: Iterable[str]) -> pd.DataFrame:
    """Return the clips of these emotions, and log the number of others; SerError for unknown ones or no clips."""
    wanted = in_order(emotions)
    if not wanted:
        raise SerError(f"no emotion was asked for. The emotions are {', '.join(EMOTIONS)}.")
    keep = clips["emotion"].isin(wanted)
    left_out = clips["emotion"][~keep].value_counts()
    if not keep.any():
        raise SerError(f"no clip is {' or '.join(wanted)}; there are: {', '.join(left_out.index)}.")
    if len(left_out):
        counts = ", ".join(f"{emotion} {count}" for emotion, count in left_out.items())
        logger.warning("%d of %d clips left out, of other emotions: %s", left_out.sum(), len(clips), counts)
    return clips[keep].reset_index(drop=True)


def measure_files(files: list[Path], title: str, progress: bool, allow_silence: bool = False) -> list[dict | str]:
    """Decode files on all cores: `seconds`, `sampling_rate` and `audio_hash` of each, or why it is not usable."""

    def measure(file: Path) -> dict | str:
        try:
            samples, sampling_rate, *_ = reading.decode(file) if allow_silence else reading.decode_audible(file)
        except SerError as error:
            return str(error)
        seconds, digest = len(samples) / sampling_rate, audio_hash(samples, sampling_rate)
        return {"seconds": seconds, "sampling_rate": sampling_rate, "audio_hash": digest}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(measure, files)
        # The delay prevents a bar from flashing up for a few files.
        return list(tqdm(results, title, len(files), unit="file", leave=False, delay=0.5, disable=not progress))


def audio_hash(samples: np.ndarray, sampling_rate: int) -> str:
    """32 hexadecimal digits of the SHA-256 of samples, of shape (n_samples, n_channels), and their rate in Hz."""
    digest = hashlib.sha256(f"{sampling_rate} Hz, {samples.shape[1]} channels".encode())
    digest.update(samples.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()[:32]


def _load_corpus(corpus: Corpus, root: Path, shortfall: dict[str, tuple[int, int]], progress: bool) -> pd.DataFrame:
    """The table of all usable files, copies included; a corpus that lacks clips is added to `shortfall`."""
    files = list(corpus.files) or reading.with_utf8_names(reading.files_in(root))
    if not files:
        raise SerError(f"{corpus.name}: no audio ({' '.join(reading.SUFFIXES)}) anywhere under {root}.")
    labels: dict[Path, dict] = {}
    foreign: list[Path] = []
    problems: list[str] = []
    for file in files:
        try:
            if (facts := corpus.facts_of(file)) is None:
                foreign.append(file)
            else:
                labels[file] = facts
        except SerError as error:
            problems.append(str(error))
    if foreign:
        others = [
            other for other in CORPORA.values() if other.parse is not corpus.parse and other.facts_of(foreign[0], False)
        ]
        names = f"expected names like {corpus.example}, but came {shown(foreign[0].name)}"
        names += f". These look like {others[0].name}." if others else "."
        if not labels:
            raise SerError(f"{corpus.name}: none of {len(files)} audio files under {root} is one of its clips: {names}")
        logger.warning("%s: %d of %d audio files left out: %s", corpus.name, len(foreign), len(files), names)
    names_of = {file: facts.get("name", file.stem) for file, facts in labels.items()}
    n_names = len(set(names_of.values()))
    if n_names < corpus.clips:
        shortfall[corpus.name] = (n_names, corpus.clips)
        message = "%s: %d of %d clips found under %s; is it half downloaded, or half unpacked?"
        logger.warning(message, corpus.name, n_names, corpus.clips, root)
    measured = _measure(corpus, root, list(labels), progress)
    n_clips = len(labels) + len(problems)
    problems += [result for result in measured.values() if isinstance(result, str)]
    if problems:
        examples = first_of(problems, 3, "; ")
        if len(problems) == n_clips:
            raise SerError(f"{corpus.name}: none of the {n_clips} clips under {root} can be used: {examples}")
        logger.warning("%s: %d of %d files left out: %s", corpus.name, len(problems), n_clips, examples)
    usable = {file: labels[file] | result for file, result in measured.items() if isinstance(result, dict)}
    table = pd.DataFrame(list(usable.values())).assign(corpus=corpus.name, path=list(map(str, usable)))
    clip_ids = [f"{corpus.name}/{names_of[file]}" for file in usable]
    return table.assign(clip_id=clip_ids, speaker=f"{corpus.name}-" + table["speaker"])


def _measure(corpus: Corpus, root: Path, files: list[Path], progress: bool) -> dict[Path, dict | str]:
    """`measure_files` through a cache, whose entries hold for a file's place, size and time."""
    key = hashlib.sha256(corpus.name.encode() + os.fsencode(root)).hexdigest()
    # What can be used, and how long it is, depends on the code that reads it.
    settings = {"code": source_hash(decoding, reading)}
    stored = cache.get("clips", settings, key)
    cached = {} if stored is None else json.loads(stored.tobytes())
    stamps = {}
    for file in filter(Path.exists, files):  # a broken link has no size; decoding it reports the error
        status = file.stat()
        stamps[file] = f"{file.relative_to(root).as_posix()} {status.st_size} {status.st_mtime_ns}"
    new = [file for file in files if stamps.get(file) not in cached]
    computed = dict(zip(new, measure_files(new, corpus.name, progress), strict=True))
    results = {file: computed[file] if file in computed else cached[stamps[file]] for file in files}
    if any(isinstance(result, dict) for result in computed.values()):
        text = json.dumps({stamp: results[file] for file, stamp in stamps.items() if isinstance(results[file], dict)})
        try:
            cache.put("clips", settings, key, np.frombuffer(text.encode(), dtype=np.uint8))
        except OSError as error:
            logger.warning("the cache cannot be written (%s): the next call will decode all files again", error)
    return results


def _drop_duplicates(clips: pd.DataFrame) -> pd.DataFrame:
    contradicting = clips.groupby("audio_hash")["emotion"].transform("nunique") > 1
    if contradicting.any():
        names = clips[contradicting].groupby("audio_hash")["clip_id"].agg(lambda ids: " = ".join(dict.fromkeys(ids)))
        reason = "because the same audio is labelled with different emotions"
        logger.warning("%d files left out, %s: %s", contradicting.sum(), reason, "; ".join(names))
        clips = clips[~contradicting]
    copies = clips["clip_id"].duplicated() | clips["audio_hash"].duplicated()
    if copies.any():
        counts = ", ".join(f"{name} {count}" for name, count in clips["corpus"][copies].value_counts().items())
        reason = f"as copies of others by name or audio ({counts}); keep_duplicates=True keeps them"
        logger.warning("%d of %d files left out, %s", copies.sum(), len(clips), reason)
    return clips[~copies].reset_index(drop=True)
