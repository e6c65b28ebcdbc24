"""The one error that this package raises on purpose."""


class SerError(ValueError):
    """Something the user can mend: the message says what was expected, what came, and what to do.

    The command line prints the message alone; everything else keeps its traceback.
    """
