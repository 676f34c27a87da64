"""Errors that are the user's to mend."""


class InputError(ValueError):
    """Bad input. The message is one line that names the file or key and the remedy."""
