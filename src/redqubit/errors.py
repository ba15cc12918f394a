"""The one error that a caller can put right."""

_MOST = 2000  # characters; what files say can be endless


class UsageError(ValueError):
    """A bad argument, name, file or folder; the message names it and says what to do.

    Everything the package raises on purpose is a `UsageError`; the command line prints it as one
    line and exits with 2. Any other exception is a fault of ours and keeps its traceback.

    Example:
        >>> print(UsageError("Name `\\x1b[31m` must be text, but is not."))
        Name `\\x1b[31m` must be text, but is not.
    """

    def __init__(self, message: str) -> None:
        """Take a message; whatever in it came from a file stays one line, of bearable length, of signs that print."""
        text = printable(message)
        super().__init__(text if len(text) <= _MOST else f"{text[: _MOST - 400]} ... {text[-400:]}")


def printable(text: str) -> str:
    """Return text in one line without the control signs by which a terminal is steered.

    Example:
        >>> printable("a\\n\\x1b]0;b")
        'a\\\\n\\\\x1b]0;b'
    """
    return "".join(c if c.isprintable() or c == "\u00a0" else repr(c)[1:-1] for c in text)
