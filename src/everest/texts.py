"""Texts that others have chosen, such as names of files and classes. Imported by all."""


def printable(text: str) -> str:
    """Write a name so that it takes one line and can be printed, whatever is in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
