"""The one exception that means: the input, not the program, is at fault."""


class InputError(ValueError):
    """Something that the user gave can't be used.

    The message names the file or key, says what was found, what is needed and how to mend it, so it is shown without a
    traceback wherever a person started the program.
    """
