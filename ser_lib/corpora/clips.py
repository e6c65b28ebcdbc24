"""The clip table: one row a clip, built from a corpus's files, checked, and without duplicates.

It is the one thing that flows through everything; see `COLUMNS` for what a row holds.
"""

import hashlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from ser_lib.audio import reading
from ser_lib.common.errors import SerError
from ser_lib.common.files import cache_dir, replacing
from ser_lib.corpora import CORPORA, find_corpus, get_corpus
from ser_lib.corpora.base import Corpus
from ser_lib.corpora.csv_corpus import refuse_shared_speakers
from ser_lib.corpora.labels import EMOTIONS, in_order

logger = logging.getLogger(__name__)

COLUMNS = [
    "clip_id",  # "ravdess/03-01-05-01-01-01-01"; a copy that was kept has "#2", "#3" after it
    "corpus",
    "path",  # absolute
    "speaker",  # "ravdess-01": never shared between corpora
    "sex",  # female, male; unknown where a corpus of one's own does not tell
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

    Files that cannot be used, copies and shortfalls are each told in one logged line with numbers. What was
    found is kept in `cache_dir()`, so that the next call decodes only files whose size or time changed.

    Args:
        corpora: names of registered corpora, and CSV files that list a corpus of one's own; see `get_corpus`.
        data_dir: a folder that holds the corpora as `data_dir`/ravdess and so on; see `find_corpus`.
        keep_duplicates: keep copies, as the sources of some published numbers did. Otherwise only the first
            of clips with the same name or the same audio stays, and none where their labels disagree.

    Returns:
        a table with `COLUMNS`; its `attrs["shortfall"]` maps each incomplete corpus to (found, expected).

    Raises:
        SerError: a corpus is found nowhere, or holds no usable clip; two are called the same, or are lists of one's
            own that share a speaker.
    """
    names = list(dict.fromkeys([corpora] if isinstance(corpora, str) else corpora))
    if not names:
        raise SerError(f"no corpus was asked for. The corpora are {', '.join(CORPORA)}.")
    chosen = [get_corpus(name, data_dir) for name in names]
    called = [corpus.name for corpus in chosen]
    if len(set(called)) < len(called):
        raise SerError(
            f"two of {', '.join(names)} are called the same, {', '.join(called)}: name each once, rename a file."
        )
    refuse_shared_speakers([corpus for corpus in chosen if corpus.files])
    shortfall, tables = {}, []
    for corpus in chosen:
        table, found = _load_corpus(corpus, find_corpus(corpus.name, data_dir), progress)
        tables.append(table)
        if found < corpus.clips:
            shortfall[corpus.name] = (found, corpus.clips)
    clips = pd.concat(tables, ignore_index=True)
    if not keep_duplicates:
        clips = _drop_duplicates(clips)
    copy = clips.groupby("clip_id").cumcount()
    clips["clip_id"] += ("#" + (copy + 1).astype(str)).where(copy > 0, "")
    clips.attrs["shortfall"] = shortfall
    return clips[COLUMNS]


def check_clips(clips: pd.DataFrame) -> None:
    """Raise SerError where a table is no clip table: a column missing, no row, an id twice, an unknown emotion."""
    missing = [column for column in COLUMNS if column not in clips.columns]
    if missing:
        raise SerError(f"the clip table lacks {', '.join(missing)}; it has {', '.join(map(str, clips.columns))}.")
    if clips.empty:
        raise SerError("the clip table has no rows: nothing was loaded, or everything was left out.")
    twice = clips["clip_id"][clips["clip_id"].duplicated()]
    if len(twice):
        raise SerError(f"clip_id must be unique, but {len(twice)} rows repeat one, such as {twice.iloc[0]}.")
    unknown = sorted(set(map(str, clips["emotion"])) - set(EMOTIONS))
    if unknown:
        raise SerError(
            f"unknown emotions {', '.join(unknown)}: use `labels.to_emotion`; they are {', '.join(EMOTIONS)}."
        )


def select_emotions(clips: pd.DataFrame, emotions) -> pd.DataFrame:
    """Keep the clips of these emotions; a logged line counts the others.

    Raises:
        SerError: an emotion is unknown, or no clip is left.
    """
    wanted = in_order(emotions)
    if not wanted:
        raise SerError(f"no emotion was asked for. The emotions are {', '.join(EMOTIONS)}.")
    keep = clips["emotion"].isin(wanted)
    left_out = clips["emotion"][~keep].value_counts()
    if not keep.any():
        raise SerError(f"no clip is {' or '.join(wanted)}; there are: {', '.join(left_out.index)}.")
    if len(left_out):
        counts = ", ".join(f"{emotion} {count}" for emotion, count in left_out.items())
        logger.warning("%d of %d clips left out, of other emotions: %s", len(clips) - keep.sum(), len(clips), counts)
    return clips[keep].reset_index(drop=True)


def _load_corpus(corpus: Corpus, root: Path, progress: bool) -> tuple[pd.DataFrame, int]:
    """Return the table of all usable files, copies included, and how many distinct names were found."""
    files = list(corpus.files) or reading.files_in(root)
    if not files:
        raise SerError(f"{corpus.name}: no audio ({' '.join(reading.SUFFIXES)}) anywhere under {root}.")
    labels = {path: corpus.parse(path) for path in files}
    strangers = [path for path in files if labels[path] is None]
    if strangers:
        _tell_strangers(corpus, root, strangers, len(files))
    named = [path for path in files if labels[path] is not None]
    names = {path: labels[path].get("name", path.stem) for path in named}
    found = len(set(names.values()))
    if found < corpus.clips:
        fraction = f"{found} of {corpus.clips} clips found under {root}"
        logger.warning("%s: %s; is it half downloaded, or half unpacked?", corpus.name, fraction)
    facts, problems = _measure(corpus, root, named, progress)
    if problems:
        first = "; ".join(problems[:3]) + ("; ..." if len(problems) > 3 else "")
        if len(problems) == len(named):
            raise SerError(f"{corpus.name}: none of the {len(named)} clips under {root} can be used: {first}")
        logger.warning("%s: %d of %d files left out: %s", corpus.name, len(problems), len(named), first)
    rows = [
        {
            **labels[path],
            **facts[path],
            "clip_id": f"{corpus.name}/{names[path]}",
            "corpus": corpus.name,
            "path": str(path),
            "speaker": f"{corpus.name}-{labels[path]['speaker']}",
        }
        for path in named
        if path in facts
    ]
    return pd.DataFrame(rows), found


def _tell_strangers(corpus: Corpus, root: Path, strangers: list[Path], n_files: int) -> None:
    readers = [
        other.name for other in CORPORA.values() if other.parse is not corpus.parse and other.parse(strangers[0])
    ]
    looks = f" These look like {readers[0]}." if readers else ""
    expected = f"expected names like {corpus.example}, but came {strangers[0].name}"
    if len(strangers) == n_files:
        raise SerError(
            f"{corpus.name}: none of {n_files} audio files under {root} is one of its clips: {expected}.{looks}"
        )
    logger.warning("%s: %d of %d audio files left out: %s.%s", corpus.name, len(strangers), n_files, expected, looks)


def _measure(corpus: Corpus, root: Path, paths: list[Path], progress: bool) -> tuple[dict[Path, dict], list[str]]:
    """Return seconds, sampling rate and hash of each usable file, and a message for each other one."""
    place = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    cache = cache_dir() / "clips" / f"{corpus.name}-{place}.json"
    known = _read_cache(cache)
    stamps, facts, problems = {}, {}, {}
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            problems[path] = f"{path}: cannot be read: {error.strerror}"
            continue
        stamps[path] = f"{path.relative_to(root).as_posix()} {status.st_size} {status.st_mtime_ns}"
        if stamps[path] in known:
            facts[path] = known[stamps[path]]
    unknown = [path for path in stamps if path not in facts]
    # The delay keeps a bar for a few files from flashing up.
    bar = tqdm(total=len(unknown), desc=corpus.name, unit="file", leave=False, delay=0.5, disable=not progress)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, measured in zip(unknown, pool.map(_measure_file, unknown), strict=True):
            if isinstance(measured, dict):
                facts[path] = measured
            else:
                problems[path] = measured
            bar.update()
    if any(path in facts for path in unknown):
        try:
            _write_cache(cache, {stamps[path]: facts[path] for path in facts})
        except OSError as error:
            logger.warning("%s cannot be written (%s): the next call will decode all files again", cache, error)
    return facts, [problems[path] for path in paths if path in problems]


def _measure_file(path: Path) -> dict | str:
    try:
        samples, sampling_rate = reading.decode(path)
    except SerError as error:
        return str(error)
    if not samples.any():
        return f"{path}: silent, every sample is 0"
    seconds = len(samples) / sampling_rate
    return {"seconds": seconds, "sampling_rate": sampling_rate, "audio_hash": audio_hash(samples, sampling_rate)}


def audio_hash(samples, sampling_rate: int) -> str:
    """Name decoded audio by its content: 32 hexadecimal digits of the SHA-256 of samples, channels and rate."""
    digest = hashlib.sha256(f"{sampling_rate} Hz, {samples.shape[1]} channels".encode())
    digest.update(samples.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()[:32]


def _read_cache(cache: Path) -> dict[str, dict]:
    try:
        checksum, _, body = cache.read_bytes().partition(b"\n")
    except OSError:
        return {}
    return json.loads(body) if hashlib.sha256(body).hexdigest().encode() == checksum else {}


def _write_cache(cache: Path, facts: dict[str, dict]) -> None:
    body = json.dumps(facts).encode()
    with replacing(cache) as part:
        part.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


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
