"""`SerError`, the error that this package raises for problems that a user can correct."""

from collections.abc import Iterable
from difflib import get_close_matches


class SerError(ValueError):
    """An error that the user can correct: the command line prints its message alone, without a traceback."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A question with the known name nearest to an unknown one, to be put into an error; "" where none is near.

    >>> did_you_mean("CREMA-D", ["ravdess", "crema_d"])
    "did you mean 'crema_d'? "
    """
    near = get_close_matches(str(name).lower(), list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""
