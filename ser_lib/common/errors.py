"""The one error that this package raises on purpose."""


class SerError(ValueError):
    """An error that the user can correct: the message says what was expected, what came, and what to do.

    The command line prints only its message; any other error keeps its traceback.
    """
