"""The options that command lines share, and the types of their values."""

import argparse
import math
import os
from pathlib import Path

from twostage.api.settings import AUTO, CHOICES, SMALLEST, largest, whole_number_of
from twostage.recipes import HIGHEST_RATE, LOWEST_RATE


def whole_number(flag: str):
    """An argparse type: a whole number, or the word auto, as the setting of that name may be."""
    name = flag.removeprefix("--").replace("-", "_")
    low = SMALLEST.get(name, 1)

    def parse(text: str) -> int | str:
        if text == "auto" and name in AUTO:
            return text
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"{flag} must be {whole_number_of(name)}, not {text!r}")
        if value > largest(name):
            raise argparse.ArgumentTypeError(f"{flag} must be at most {largest(name):,}, not {text}")
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


learning_rate = number("a learning rate", LOWEST_RATE, HIGHEST_RATE)


# Options that several command lines have in common.
SHARED = {
    "--device": {"default": "auto", "metavar": "NAME", "help": "auto, cpu, cuda or cuda:N (default: auto, a GPU if there is one)"},
    "--dtype": {"choices": CHOICES["dtype"], "default": "auto"},
    "--encoding": {"default": "utf-8-sig", "metavar": "NAME"},
    "--on-undecodable": {"choices": CHOICES["on_undecodable"], "default": "fail"},
    "--class-weight": {
        "choices": CHOICES["class_weight"], "default": "none",
        "help": "weight of each class in the loss; balanced is n / (classes x its count) (default: none)",
    },
    "--activation": {
        "choices": CHOICES["activation"], "default": "relu",
        "help": "between the layers of 3C and 3C-big (default: relu; it was not published)",
    },
    "--lr-scale": {
        "type": number("--lr-scale", 0, 1e9, open_low=True), "default": 1.0, "metavar": "X",
        "help": "multiplies the recipes' rates; 100 adds -x100 to the run's name (default: 1)",
    },
    "--tensorboard": {
        "action": "store_true", "help": "write event files for TensorBoard beside metrics.jsonl (pip install tensorboard)",
    },
    "--runs-dir": {
        "type": path, "default": Path("runs"), "metavar": "DIR", "help": "folder that holds the run folders (default: runs)",
    },
}  # fmt: skip


def add_shared(group, *names: str, **own) -> None:
    """own: what this command line says of them by itself, their help for instance."""
    for name in names:
        group.add_argument(name, **SHARED[name] | own)


def add_reading_options(parser, corpus_optional: bool = False) -> None:
    """CORPUS and how it is read."""
    group = parser.add_argument_group("corpus")
    group.add_argument(
        "corpus", type=os.path.expanduser, metavar="CORPUS", nargs="?" if corpus_optional else None,
        help="a folder or file of labelled texts, or the word demo",
    )  # fmt: skip
    group.add_argument(
        "--text-column", dest="text", nargs="+", metavar="NAME",
        help="the column of the texts, or several to join with newlines (default: found by the usual names, where that is unambiguous)",
    )  # fmt: skip
    group.add_argument("--label-column", dest="label", metavar="NAME", help="the column of the labels (default: as above)")
    group.add_argument(
        "--split-column", dest="split", metavar="NAME", help="a column that says train, val or test (default: one called split)"
    )
    group.add_argument(
        "--per-class", type=whole_number("--per-class"), metavar="N",
        help="at most N documents per class and split (default: all)",
    )  # fmt: skip
    add_shared(
        group, "--encoding",
        help="text encoding of the files; auto detects it file by file (default: utf-8-sig, which is UTF-8)",
    )  # fmt: skip
    add_shared(
        group, "--on-undecodable",
        help="documents with bytes that are not text in that encoding: refuse the corpus, leave them out, or use U+FFFD (default: fail)",
    )  # fmt: skip


def add_corpus_options(parser, corpus_optional: bool = False) -> None:
    """The corpus and encoder options: one group for extract.py and finetune.py."""
    add_reading_options(parser, corpus_optional)
    group = parser.add_argument_group("encoder")
    group.add_argument(
        "--model", metavar="MODEL", help="a BERT folder or hub name (default: bert-base-chinese; demo brings its own)"
    )
    group.add_argument(
        "--max-length", type=whole_number("--max-length"), default=512, metavar="N",
        help="tokens per document, [CLS] and [SEP] included (default: 512)",
    )  # fmt: skip
    group.add_argument(
        "--truncation", choices=CHOICES["truncation"], default="head",
        help="what is kept of a longer document: its first tokens, its last, or the first 128 and the last (default: head)",
    )  # fmt: skip
    group.add_argument(
        "--prefix", type=utf8_text, default="", metavar="TEXT",
        help='put in front of every text, such as "query: " (default: nothing); --truncation tail cuts it off long texts',
    )  # fmt: skip
    add_shared(group, "--device")
    add_shared(
        group, "--dtype",
        help="arithmetic of the encoder (default: auto, bfloat16 where the hardware has it, else float32)",
    )  # fmt: skip
    group = parser.add_argument_group("run")
    group.add_argument(
        "--seed", type=whole_number("--seed"), default=0, metavar="N", help="seed of everything random (default: 0)"
    )
    group.add_argument(
        "--cache-dir", type=path, default=Path("cache"), metavar="DIR",
        help="folder that holds the feature caches (default: cache)",
    )  # fmt: skip
