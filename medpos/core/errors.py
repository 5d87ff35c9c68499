"""Report unusable input, and shorten the errors of other libraries."""

import unicodedata


class InputError(ValueError):
    """Report unusable input.

    The message names the file or key and says what was expected, what was found and what to do. The command line shows
    it without a traceback. Names in it may hold anything, so it is shown with escapes for control characters.

    Args:
        lines: lines of the message, nearly always one.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)

    def __str__(self) -> str:
        """Return the lines, each on one line whatever is in it."""
        return "\n".join(printable(str(line)) for line in self.args)


def printable(text: str) -> str:
    """Return text for one line of a terminal or log: escapes for line breaks, control and bidirectional characters."""
    if text.isprintable():
        return text
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)


def find_input_error(error: BaseException) -> InputError | None:
    """Return an exception if it is an InputError, else the InputError that led to it; None if there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    return cause


def first_line(error: BaseException, length: int = 200) -> str:
    """Return the first line of an exception's message, or its type's name where it has no message.

    Args:
        error: the exception.
        length: maximum number of characters.
    """
    return (str(error).splitlines() or [type(error).__name__])[0][:length]
