"""Report unusable input, and shorten the errors of other libraries."""


class InputError(ValueError):
    """Report unusable input.

    The message names the file or key and says what was expected, what was found and what to do. The command line shows
    it without a traceback.
    """


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
