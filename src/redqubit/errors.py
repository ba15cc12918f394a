"""The one error that a caller can put right."""


class UsageError(ValueError):
    """A bad argument, name, file or folder; the message names it and says what to do.

    Everything the package raises on purpose is a `UsageError`; the command line prints it as one
    line and exits with 2. Any other exception is a fault of ours and keeps its traceback.
    """
