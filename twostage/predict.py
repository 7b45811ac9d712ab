"""Classify texts with a trained run: texts from the command line, a file, or standard input, one per line."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from twostage import cli
from twostage.cli.streams import reader_is_gone
from twostage.errors import BadInput, shown
from twostage.progress import Progress, say

EXAMPLES = """examples:
  python -m twostage.predict runs/sweep 国足客场取胜，晋级下一轮
  python -m twostage.predict runs/B4C3 --file titles.txt --top-k 1
  cat titles.txt | python -m twostage.predict runs/1C3 --json > predicted.jsonl
"""
CHUNK = 1024  # texts at a time: memory stays flat whatever the length of the input


def build_parser() -> cli.Parser:
    parser = cli.Parser(
        prog="python -m twostage.predict",
        description=__doc__,
        epilog=EXAMPLES,
        usage="python -m twostage.predict RUN [TEXT ...] [options]",
    )
    parser.add_argument("run", type=cli.path, metavar="RUN", help="a run folder, for instance runs/sweep")
    what = parser.add_argument_group("texts (when none is given: standard input, one text per line)")
    what.add_argument("texts", nargs="*", metavar="TEXT", help="a text to classify")
    what.add_argument("--file", type=cli.path, metavar="FILE", help="a file or a pipe, one text per line")
    cli.add_shared(
        what, "--encoding",
        help="encoding of the file or standard input; auto detects it (default: utf-8-sig, which is UTF-8)",
    )  # fmt: skip
    cli.add_shared(
        what, "--on-undecodable",
        help="lines that are not text in that encoding: refuse, leave their answers empty, or use U+FFFD (default: fail)",
    )  # fmt: skip
    out = parser.add_argument_group("output, one line per text, in the order of the input")
    out.add_argument("--top-k", type=cli.whole_number("--top-k"), default=3, metavar="K", help="classes per text (default: 3)")
    out.add_argument(
        "--min-probability", type=cli.number("--min-probability", 0, 1), default=0.0, metavar="P",
        help="answer none where the most probable class stays below P (default: 0, always an answer)",
    )  # fmt: skip
    out.add_argument(
        "--json", action="store_true", help="JSON lines (default: label, probability, label, probability ... separated by tabs)"
    )
    how = parser.add_argument_group("encoder")
    how.add_argument("--model", metavar="MODEL", help="the encoder of a head run, when it is not where training found it")
    cli.add_shared(how, "--device")
    cli.add_shared(
        how, "--dtype",
        help="arithmetic of the encoder (default: auto, what is fast on the device; float32 on a CPU if training used it)",
    )  # fmt: skip
    return parser


def main(argv=None) -> int:
    args = build_parser().parse_intermixed_args(argv)  # options may stand before the texts
    if args.texts and args.file:
        raise BadInput("give texts or --file, not both")
    with ExitStack() as files:
        lines, total = source_of(args, files)
        return answer(args, lines, total)


def answer(args, lines: Iterable[str], total: int | None) -> int:
    """Print what the run says of each text."""
    from twostage.models.saved import load_run

    trained = load_run(args.run, model=args.model or model_of_older_run(args.run), device=args.device, dtype=args.dtype)
    empty = done = 0
    with Progress(total or 0, "texts", "predict") as progress:
        for chunk in chunks(lines, 1 if not args.texts and not args.file and sys.stdin.isatty() else CHUNK):
            full = [text for text in chunk if text.strip()]
            found = iter(trained.probabilities(full) if full else ())
            for number, text in enumerate(chunk, done + 1):
                probabilities = next(found) if text.strip() else None
                top = [] if probabilities is None else best(probabilities, trained.label_names, args.top_k)
                known = not top or top[0][1] >= args.min_probability
                print(as_json(text, top, known) if args.json else as_line(top, known))
                if probabilities is None:
                    empty += 1
                    if empty == 1:
                        say(f"text {number} is empty: nothing is predicted, and its line stays empty to keep the order")
            sys.stdout.flush()
            if reader_is_gone():
                break
            done += len(chunk)
            if total:
                progress.advance(len(chunk))
    trained.close()
    if undecodable := getattr(lines, "undecodable", 0):
        how = "read with U+FFFD" if args.on_undecodable == "replace" else "left empty"
        say(f"{undecodable:,} text{'s' * (undecodable > 1)} not in {lines.decoder.encoding}: {how}")
    if empty > 1:
        say(f"{empty:,} of {done:,} texts are empty")
    return 0


def model_of_older_run(run: Path) -> str | None:
    """Where the facts beside its cache say the encoder of a run lay, for a run.json that does not say it itself."""
    from twostage.cache.reader import read_facts
    from twostage.models.saved import recorded_model
    from twostage.runs.folder import read_run

    record = read_run(run)
    cache = record.get("cache")
    if recorded_model(record) or not isinstance(cache, dict) or not isinstance(cache.get("path"), str):
        return None
    model = read_facts(cache["path"]).get("model")
    return model if isinstance(model, str) and model else None


def source_of(args, files: ExitStack) -> tuple[Iterable[str], int | None]:
    """The texts as an iterator, and how many there are if that is known without reading them twice; `files` closes what it opens."""
    from twostage.corpus.input_lines import InputLines

    if args.texts:
        # The bytes of the command line, whatever the locale took them for.
        return [utf8(os.fsencode(text), f"text {i}") for i, text in enumerate(args.texts, 1)], len(args.texts)
    name = "standard input" if args.file is None else shown(args.file)
    try:
        stream = sys.stdin.buffer if args.file is None else files.enter_context(open(args.file, "rb"))  # noqa: SIM115, closed by `files`
        lines = InputLines(stream, name, args.encoding, args.on_undecodable)
        if lines.stream is not stream:
            files.enter_context(lines.stream)
        return lines, lines.count() if args.file is not None and lines.stream.seekable() else None
    except OSError as error:
        raise BadInput(f"{name}: cannot be read ({error.strerror}): give a file with one text per line") from None


def utf8(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{where}: not UTF-8 at byte {error.start:,}; put it into a file and name its --encoding") from None


def chunks(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    lines = iter(lines)
    while chunk := list(islice(lines, size)):
        yield chunk


def best(probabilities, label_names: list[str], k: int) -> list[tuple[str, float]]:
    """The k most probable classes, the first of equals first."""
    order = (-probabilities).argsort(kind="stable")[:k]
    return [(label_names[i], float(probabilities[i])) for i in order]


def as_line(top: list[tuple[str, float]], known: bool = True) -> str:
    """label, probability, label, probability ... between tabs; an empty line for an empty text.

    Where the answer is withheld: none, the highest probability.
    """
    if not known:
        return f"none\t{top[0][1]:.4f}"
    return "\t".join(f"{' '.join(name.split())}\t{p:.4f}" for name, p in top)


def as_json(text: str, top: list[tuple[str, float]], known: bool = True) -> str:
    """{"label": ..., "probability": ..., "top": [{"label": ..., "probability": ...}, ...], "text": ...}; nulls for an empty text.

    Where the answer is withheld the label alone is null.
    """
    label, probability = top[0] if top else (None, None)
    entries = [{"label": name, "probability": p} for name, p in top]
    answer = {"label": label if known else None, "probability": probability, "top": entries, "text": text}
    return json.dumps(answer, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(cli.run(main))
