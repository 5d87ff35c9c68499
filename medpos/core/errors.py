"""Report unusable input, and shorten the errors of other libraries."""


class InputError(ValueError):
    """Report unusable input.

    The message names the file or key and says what was expected, what was found and what to do. The command line shows
    it without a traceback.
    """


def first_line(error: BaseException, length: int = 200) -> str:
    """Return the first line of an exception's message, or its type's name where it has no message.

    Args:
        error: the exception.
        length: maximum number of characters.
    """
    return (str(error).splitlines() or [type(error).__name__])[0][:length]
