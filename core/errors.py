"""Bad input, which a person can mend, and an engine that broke down; both are told in one line."""


class InputError(ValueError):
    """Bad input: a file, an option or a data row that cannot be used.

    Its text is one line that names the thing, what was expected, what was found and what to do.
    Commands print that line alone and exit with status 2.
    """


class EngineError(Exception):
    """The engine that generates broke down: nothing more can be asked of it."""
