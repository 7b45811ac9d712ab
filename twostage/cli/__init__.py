"""What the command lines share: one-line errors, exit codes, value types, and the corpus and encoder options."""

import argparse
import math
import os
import sys
from pathlib import Path

from twostage import ranks
from twostage.cli.signals import deafen, listen
from twostage.cli.streams import let_go, open_streams, reader_is_gone
from twostage.errors import BadInput
from twostage.progress import say, spoken


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
    prog = Path(sys.argv[0]).name if sys.argv[0] else "twostage"
    output = open_streams(silent=ranks.silent())
    try:
        listen()
        ranks.share_processors()
        with spoken():
            if not several and ranks.size() > 1:
                if ranks.rank():
                    return 0
                say(f"{prog} works in one process: the other {ranks.size() - 1} that were started have left")
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


def failed(prog: str, message: str, status: int = 2) -> int:
    if not ranks.silent():
        print(f"{prog}: {' '.join(message.split(chr(10)))}", file=sys.stderr)
    return status


def whole_number(low: int, what: str):
    """An argparse type: a whole number of at least `low`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"{what} must be a whole number of at least {low}, not {text!r}")
        return value

    return parse


def number(what: str, low: float, high: float, open_low: bool = False):
    """An argparse type: a finite number from `low` to `high`; `open_low` leaves `low` itself out."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high) or (open_low and value == low):
            bounds = f"above {low:g}" if open_low else f"at least {low:g}"
            raise argparse.ArgumentTypeError(f"{what} must be a number {bounds} and at most {high:g}, not {text!r}")
        return value

    return parse


CORPUS_SETTINGS = ("text", "label", "split", "per_class", "encoding", "on_undecodable")  # of the API
ENCODER_SETTINGS = ("model", "max_length", "truncation", "prefix", "device", "dtype")


def utf8_text(text: str) -> str:
    """An argparse type: the bytes of the command line as UTF-8, whatever the locale took them for."""
    try:
        return os.fsencode(text).decode()
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{ascii(text)} is not UTF-8") from None


def path(text: str) -> Path:
    """An argparse type: a path. No shell makes ~ the home folder in --cache-dir=~/x."""
    return Path(os.path.expanduser(text))


learning_rate = number("a learning rate", 0, 1000, open_low=True)


def add_reading_options(parser: Parser, corpus_optional: bool = False) -> None:
    """CORPUS and how it is read."""
    group = parser.add_argument_group("corpus")
    group.add_argument(
        "corpus",
        type=os.path.expanduser,
        metavar="CORPUS",
        nargs="?" if corpus_optional else None,
        help="a folder or file of labelled texts, or the word demo",
    )
    group.add_argument(
        "--text-column", dest="text", nargs="+", metavar="NAME",
        help="the column of the texts, or several, joined with a newline (default: by its usual names, where that is plain)",
    )  # fmt: skip
    group.add_argument("--label-column", dest="label", metavar="NAME", help="the column of the labels (default: as above)")
    group.add_argument(
        "--split-column", dest="split", metavar="NAME", help="a column that says train, val or test (default: one called split)"
    )
    group.add_argument(
        "--per-class",
        type=whole_number(1, "--per-class"),
        metavar="N",
        help="at most N documents per class and split (default: all)",
    )
    group.add_argument(
        "--encoding",
        default="utf-8-sig",
        metavar="NAME",
        help="text encoding of the files, or auto: found out, a file at a time (default: utf-8-sig, which is UTF-8)",
    )
    group.add_argument(
        "--on-undecodable",
        choices=("fail", "skip", "replace"),
        default="fail",
        help="documents with bytes that are not text in that encoding: refuse the corpus, leave them out, or put U+FFFD (default: fail)",
    )


def add_corpus_options(parser: Parser, corpus_optional: bool = False) -> None:
    """The corpus and encoder options: one group for extract.py and finetune.py."""
    add_reading_options(parser, corpus_optional)
    group = parser.add_argument_group("encoder")
    group.add_argument(
        "--model",
        default=None,
        metavar="MODEL",
        help="a BERT folder or hub name (default: bert-base-chinese; demo brings its own)",
    )
    group.add_argument(
        "--max-length",
        type=whole_number(3, "--max-length"),
        default=512,
        metavar="N",
        help="tokens a document, [CLS] and [SEP] included (default: 512)",
    )
    group.add_argument(
        "--truncation",
        choices=("head", "tail", "head-tail"),
        default="head",
        help="what is kept of a longer document: its first tokens, its last, or the first 128 and the last (default: head)",
    )
    group.add_argument(
        "--prefix", type=utf8_text, default="", metavar="TEXT",
        help='put in front of every text, as "query: " (default: nothing); tail cuts it off a longer text',
    )  # fmt: skip
    group.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto, a GPU if there is one)"
    )
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="arithmetic of the encoder (default: auto, bfloat16 where the hardware has it, else float32)",
    )
    group = parser.add_argument_group("run")
    group.add_argument(
        "--seed", type=whole_number(0, "--seed"), default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    group.add_argument(
        "--cache-dir", type=path, default=Path("cache"), metavar="DIR", help="folder of the feature caches (default: cache)"
    )
