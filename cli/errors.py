"""The error that ends a command, and its exit codes."""

FAILED, REFUSED, UNREACHABLE, HELD = 1, 3, 4, 5
"""Exit codes: the upload, run or export failed; the request was refused, or a file or profile cannot be used; there is
no usable response; the snapshot is held."""


class CommandError(Exception):
    """What went wrong, in one line for the user; `code` is the exit code of the command."""

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code
