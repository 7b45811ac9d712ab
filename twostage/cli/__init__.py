"""What the command lines share: one-line errors and exit codes here, options in options.py, signals and streams beside it."""

import argparse
import sys
from pathlib import Path

from twostage import ranks
from twostage.cli.options import (
    CORPUS_SETTINGS,
    ENCODER_SETTINGS,
    add_corpus_options,
    add_reading_options,
    add_shared,
    learning_rate,
    number,
    path,
    whole_number,
)
from twostage.cli.signals import deafen, listen
from twostage.cli.streams import let_go, open_streams, reader_is_gone
from twostage.errors import BadInput
from twostage.progress import say, spoken

__all__ = [
    "CORPUS_SETTINGS", "ENCODER_SETTINGS", "Parser", "add_corpus_options", "add_reading_options", "add_shared", "failed",
    "learning_rate", "number", "path", "run", "whole_number",
]  # fmt: skip


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaint is one line, and whose help keeps the layout of its description and examples."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message: str):
        self.exit(2, None if ranks.silent() else f"{self.prog}: {message} (see {self.prog} --help)\n")


def run(main, argv=None, several: bool = False) -> int:
    """Call main(argv) and give the exit status: 2 and one line for bad input, 130, 143 or 129 for Ctrl-C, SIGTERM or SIGHUP.

    several: whether all processes that torchrun starts work in main; else the first works and the others leave at once. In
    either case the first alone speaks. Standard output that nobody reads any more is no error; one that cannot be written
    to is, once the work is done.
    """
    prog = program()
    output = open_streams(silent=ranks.silent())
    try:
        listen()
        ranks.share_processors()
        with spoken():
            if not several and ranks.size() > 1:
                if ranks.rank():
                    return 0
                say(f"{prog} works in a single process: the other {ranks.size() - 1} that were started have ended")
            status = main(argv) or 0
        output.flush()
        if output.lost and not reader_is_gone():
            raise BadInput(f"cannot write to standard output ({output.lost.strerror}): make room there, or redirect it")
    except BadInput as error:
        ranks.tell(str(error))
        status = failed(prog, str(error))
    except KeyboardInterrupt as error:
        deafen()
        reason = ranks.trouble(error)  # with another rank: torchrun then ends this one too
        status = failed(prog, reason) if reason else failed(prog, "interrupted", getattr(error, "status", 130))
    except RuntimeError as error:
        reason = ranks.trouble(error)
        if not reason:
            raise
        status = failed(prog, reason)
    except OSError as error:
        status = failed(prog, f"{error.filename or 'a file'}: {error.strerror or error}")
    if output.lost:
        let_go(output)
    if ranks.several():
        deafen()  # torchrun may still send something to one that is leaving
    return status


def program() -> str:
    """What was started, as the user typed it: extract.py, or python -m twostage.predict."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # of a module started with -m
    if spec is not None and spec.name.startswith("twostage."):
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return Path(sys.argv[0]).name if sys.argv[0] else "twostage"


def failed(prog: str, message: str, status: int = 2) -> int:
    if not ranks.silent():
        print(f"{prog}: {' '.join(message.split(chr(10)))}", file=sys.stderr)
    return status
