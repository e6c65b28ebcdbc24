"""The emotions: one vocabulary for all corpora, and the words that corpora use for them.

The order is fixed. Every probability column, confusion matrix and model output follows it.
"""

from ser_lib.common.errors import SerError, did_you_mean

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")

SYNONYMS = {
    "anger": "angry", "disgusted": "disgust", "fearful": "fear", "happiness": "happy", "joy": "happy",
    "pleasant surprise": "surprise", "pleasant surprised": "surprise", "ps": "surprise", "sadness": "sad",
    "surprised": "surprise",
}  # fmt: skip


def canonical(word: str) -> str:
    """The word in lower case with single spaces, or the emotion that it is a synonym of; "" stays ""."""
    key = " ".join(word.replace("_", " ").replace("-", " ").lower().split())
    return SYNONYMS.get(key, key)


def to_emotion(word: str) -> str:
    """Map a word to one of `EMOTIONS`, whatever its case, underscores and hyphens; SerError where it is unknown.

    >>> to_emotion("Pleasant_Surprise"), to_emotion("fearful"), to_emotion("calm")
    ('surprise', 'fear', 'calm')
    """
    key = canonical(word)
    if key in EMOTIONS:
        return key
    nearest = did_you_mean(key, [*EMOTIONS, *SYNONYMS])
    raise SerError(f"unknown emotion {word!r}: {nearest}The emotions are {', '.join(EMOTIONS)}.")


def in_order(emotions) -> list[str]:
    """Return the distinct emotions of an iterable in the order of `EMOTIONS`."""
    present = {to_emotion(emotion) for emotion in emotions}
    return [emotion for emotion in EMOTIONS if emotion in present]
