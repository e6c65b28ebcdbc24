"""The emotions: one shared vocabulary, and the words that corpora use for them.

The order is fixed. Every probability column, confusion matrix and model output follows it.
"""

from difflib import get_close_matches

from ser_lib.common.errors import SerError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")

SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "joy": "happy",
    "pleasant surprise": "surprise",
    "pleasant surprised": "surprise",
    "ps": "surprise",
    "sadness": "sad",
    "surprised": "surprise",
}


def to_emotion(word: str) -> str:
    """Map a corpus's word for an emotion to one of `EMOTIONS`.

    Case, underscores and hyphens do not matter.

    Raises:
        SerError: the word is none that is known; the message names the nearest.

    >>> to_emotion("Pleasant_Surprise"), to_emotion("fearful"), to_emotion("calm")
    ('surprise', 'fear', 'calm')
    """
    key = " ".join(word.replace("_", " ").replace("-", " ").lower().split())
    key = SYNONYMS.get(key, key)
    if key in EMOTIONS:
        return key
    near = get_close_matches(key, [*EMOTIONS, *SYNONYMS], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise SerError(f"unknown emotion {word!r}: {hint}The emotions are {', '.join(EMOTIONS)}.")


def in_order(emotions) -> list[str]:
    """Return the distinct emotions of an iterable in the order of `EMOTIONS`.

    >>> in_order(["sad", "neutral", "sad"])
    ['neutral', 'sad']
    """
    present = {to_emotion(emotion) for emotion in emotions}
    return [emotion for emotion in EMOTIONS if emotion in present]
