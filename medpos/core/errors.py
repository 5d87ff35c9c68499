"""Report that the input, not the program, is at fault, and shorten the errors of other libraries."""


class InputError(ValueError):
    """Report input that can't be used.

    The message names the file or key and says what was expected, what was found and what to do, so it is shown without
    a traceback wherever a person started the program.
    """


def first_line(error: BaseException, length: int = 200) -> str:
    """Return the first line of an exception's message, or its type's name where it has no message.

    Args:
        error: the exception.
        length: greatest number of characters.
    """
    return (str(error).splitlines() or [type(error).__name__])[0][:length]
