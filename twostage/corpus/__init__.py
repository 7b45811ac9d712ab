"""Labelled texts in any form. `read_corpus` is found here too, and loaded when it is asked for."""


def __getattr__(name: str):
    if name != "read_corpus":
        raise AttributeError(f"module 'twostage.corpus' has no attribute {name!r}")
    from twostage.corpus.reader import read_corpus

    return read_corpus
