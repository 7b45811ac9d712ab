"""What is said when something is wrong."""

import contextlib


class BadInput(Exception):
    """Something the user can mend, in one line: what is wrong, where, what to do. A script shows it and exits with 2."""


def shown(name: object) -> str:
    """A file's name or a piece of text fit for one line of a message, whatever is in it."""
    text = str(name)
    with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate that stands for no byte stays as it is
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
