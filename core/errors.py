"""The one error a person can cause: bad input, told in one line."""


class InputError(ValueError):
    """Bad input: a file, an option or a data row that cannot be used.

    Its text is one line that names the thing, what was expected, what was found and what to do.
    Commands print that line alone and exit with status 2.
    """
