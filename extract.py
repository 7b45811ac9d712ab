"""Stage 1: a corpus goes through a frozen BERT once, and one vector per document lands in a cache file.

examples:
  python extract.py demo
  python extract.py THUCNews --model bert-base-chinese --max-length 256
  python extract.py titles.csv --pooling cls mean --layer -1 -2 -4      one pass, six caches
  torchrun --nproc-per-node 8 extract.py THUCNews      eight processes, a GPU each; the same file

Prints the path of the cache, one per view, and nothing else; the log goes to standard error. Interrupted, the same command continues.
"""

import sys
from pathlib import Path

import twostage as ts
from twostage.api.settings import CHOICES
from twostage.cli import CORPUS_SETTINGS, ENCODER_SETTINGS, Parser, add_corpus_options, path, run, whole_number
from twostage.errors import BadInput
from twostage.memory import keep_freed_memory

POOLINGS = ("cls", "pooler", "mean", "max")
SETTINGS = (*CORPUS_SETTINGS, *ENCODER_SETTINGS, "pooling", "layer", "store_dtype", "tokens_per_batch", "cache_dir")


def build_parser() -> Parser:
    parser = Parser(prog="extract.py", description=__doc__)
    add_corpus_options(parser, corpus_optional=True)
    group = parser.add_argument_group("vectors")
    group.add_argument(
        "--pooling",
        nargs="+",
        default=["cls"],
        metavar="NAME",
        help="a document's vector: cls ([CLS]), pooler (the pooler's output), mean or max (over its tokens), or several (default: cls)",
    )
    group.add_argument(
        "--layer",
        nargs="+",
        type=int,
        default=[-1],
        metavar="-N",
        help="of which layer: -1 is the last, -2 the one before, or several, all in one pass, one cache each (default: -1)",
    )
    group.add_argument(
        "--store-dtype",
        choices=CHOICES["store_dtype"],
        default="float16",
        help="numbers in the cache, 2 or 4 bytes each (default: float16)",
    )
    group.add_argument(
        "--tokens-per-batch",
        type=whole_number("--tokens-per-batch"),
        metavar="N",
        help="tokens encoded at a time: changes speed and memory, on a CPU never a vector (default: 1024 per core, 65536 per GPU)",
    )
    group = parser.add_argument_group("instead of extracting")
    group.add_argument("--plan", action="store_true", help="print what would be done and what it would cost")
    group.add_argument("--verify", metavar="CACHE", type=path, help="re-read a cache, print the verdict, exit 0 or 1")
    return parser


def main(argv=None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.corpus is None and len(args.pooling) > 1 and args.pooling[-1] not in POOLINGS:
        args.corpus = args.pooling.pop()  # extract.py --pooling mean CORPUS
    if wrong := [name for name in args.pooling if name not in POOLINGS]:
        parser.error(f"argument --pooling: invalid choice: {wrong[0]!r} (choose from {', '.join(POOLINGS)})")
    if args.verify is not None:
        return verify(args.verify)
    if args.corpus is None:
        raise BadInput("no CORPUS: give a folder or file of labelled texts, or the word demo (see extract.py --help)")
    keep_freed_memory()
    settings = {name: getattr(args, name) for name in SETTINGS}
    if args.plan:
        from twostage.api.extraction import plan

        print("\n".join(plan(args.corpus, **settings)))
    else:
        for cache in ts.extract(args.corpus, **settings):
            print(cache.path)
    return 0


def verify(path: Path) -> int:
    """Print what is wrong with a cache, or that nothing is."""
    from twostage.api.extraction import faults_of

    faults = faults_of(path)
    print("\n".join(f"{path}: {fault}" for fault in faults) or f"{path}: intact, every digest matches")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(run(main, several=True))
