"""Stage 2: train classifier heads on the vectors of a cache. Needs no encoder: a cache carried to a laptop is enough.

Without --recipe, --sweep or --lr it trains the four published head recipes 1C3, 1C4, 3C4 and 3C4-big. The digit is the
number of zeros after the decimal point of the learning rate: 3 is 0.0001, 4 is 0.00001.
"""

import sys
from pathlib import Path

import twostage as ts
from twostage import cli
from twostage.api.settings import BOUNDS, CHOICES
from twostage.errors import BadInput

SETTINGS = ("class_weight", "activation", "device", "seed", "standardize", "tensorboard", "runs_dir")

EXAMPLES = """examples:
  python train_head.py                                     the four recipes on the only cache in cache/
  python train_head.py cache/news-bert-1a2b3c4d.h5 --recipe 1C3 --seeds 5
  python train_head.py --sweep                             13 learning rates x 3 seeds at once
  python train_head.py cls.h5 mean.h5 --sweep              which pooling, layer or encoder, and which rate for it
  python train_head.py --sweep --head 1C 3C --lr 1e-4 1e-3 1e-2
  python train_head.py --head 3C --lr 1e-3 --epochs 10
  python train_head.py --ceiling --learning-curve
"""


def build_parser() -> cli.Parser:
    parser = cli.Parser(prog="train_head.py", description=__doc__, epilog=EXAMPLES, usage="train_head.py [CACHE ...] [options]")
    parser.add_argument(
        "cache",
        nargs="*",
        type=cli.path,
        metavar="CACHE",
        help="an .h5 file from extract.py (default: the only one in cache/); several of the same documents with --sweep: which "
        "layer, pooling or encoder",
    )
    what = parser.add_argument_group("what to train")
    what.add_argument(
        "--recipe", nargs="+", metavar="NAME", help="one or more of 1C3, 1C4, 3C4 and 3C4-big (default: all four)"
    )
    what.add_argument("--sweep", action="store_true", help="a grid of heads at once, best chosen on val")
    what.add_argument(
        "--ceiling",
        action="store_true",
        help="also fit the best possible 1-layer head, and say how far each run falls short of it",
    )
    what.add_argument(
        "--learning-curve", action="store_true", help="also train the chosen head on 1, 3, 10, 30 and 100 %% of the documents"
    )
    what.add_argument(
        "--suspects", action="store_true", help="rank all labels by how wrong they look, whatever split they are in"
    )
    what.add_argument(
        "--near-duplicates", action="store_true", help="find test documents with a double in train; accuracy without them"
    )
    head = parser.add_argument_group("heads")
    head.add_argument("--head", nargs="+", choices=CHOICES["head"], help="shapes (default: 1C)")
    head.add_argument(
        "--lr", nargs="+", type=cli.learning_rate, metavar="X",
        help="learning rates (sweep: 13 from 1e-5 to 1e-1; without --sweep: one run each)",
    )  # fmt: skip
    head.add_argument(
        "--seeds", type=cli.whole_number("--seeds"), metavar="N",
        help="start each head from seeds 0..N-1 (default: 3 in a sweep, else --seed alone)",
    )  # fmt: skip
    head.add_argument(
        "--epochs", type=cli.whole_number("--epochs"), metavar="N",
        help="passes over the training documents (default: the recipe's own, else 20)",
    )  # fmt: skip
    head.add_argument(
        "--batch-size", nargs="+", type=cli.whole_number("--batch-size"), metavar="N", help="documents per step (default: 64)"
    )
    head.add_argument(
        "--weight-decay", nargs="+", type=cli.number("a weight decay", *BOUNDS["weight_decay"]), metavar="X",
        help="decoupled, as AdamW's (default: 0, which is plain Adam)",
    )  # fmt: skip
    cli.add_shared(head, "--class-weight", "--activation")
    head.add_argument(
        "--standardize", action="store_true",
        help="scale vectors to mean 0 and deviation 1, folded into the saved head (with --sweep: try both with and without)",
    )  # fmt: skip
    cli.add_shared(head, "--lr-scale")
    run = parser.add_argument_group("run")
    cli.add_shared(run, "--device")
    run.add_argument(
        "--seed", type=cli.whole_number("--seed"), default=0, metavar="N",
        help="seed of initial weights and document order (default: 0)",
    )  # fmt: skip
    cli.add_shared(run, "--tensorboard")
    run.add_argument(
        "--cache-dir", type=cli.path, default=Path("cache"), metavar="DIR", help="where CACHE is looked for (default: cache)"
    )
    cli.add_shared(run, "--runs-dir")
    return parser


def main(argv=None) -> int:
    args = build_parser().parse_args(argv)
    check(args)
    from twostage.api import findings
    from twostage.api import training as api

    given = {name: getattr(args, name) for name in SETTINGS}
    lists = {"head": args.head, "batch_size": args.batch_size, "weight_decay": args.weight_decay}

    # A run a recipe, or a combination of the given settings; beside a sweep the lists are the sweep's.
    caches = [ts.open_cache(path, cache_dir=args.cache_dir) for path in args.cache or [None]]
    cache, runs = caches[0], []
    if args.recipe or not args.sweep:
        own = {} if args.sweep else {"lr": args.lr, "epochs": args.epochs, **lists}
        try:
            ts.train(cache, recipe=args.recipe, seeds=args.seeds, lr_scale=args.lr_scale, on_run=runs.append, **own, **given)
        finally:  # also on Ctrl-C: what is complete is shown
            if runs:
                print(api.table(runs))

    # A grid of rates and seeds in one pass, for each view of the documents, the best chosen on val.
    if args.sweep:
        found = ts.sweep(caches, lr=args.lr, seeds=args.seeds or 3, epochs=args.epochs, **lists, **given)
        print("\n" * bool(runs) + str(found))
        runs.append(found)
        cache = next(one for one in caches if one.fingerprint == found.record["fingerprint"])

    # The best that one layer can do on these vectors, and what more labels would bring.
    if args.ceiling:
        for name in ("activation", "standardize", "tensorboard"):  # a ceiling has one layer and one epoch
            del given[name]
        top = findings.ceiling(cache, **given)
        print("\n" + findings.below_ceiling(top, runs))
    best = max(runs, key=lambda run: run.val_accuracy)
    if args.learning_curve:
        print("\n" + findings.learning_curve(cache, best, device=args.device))
    # What the vectors know about the data, kept in the best run of this call.
    if args.suspects:
        print("\n" + findings.suspects(cache, best, device=args.device))
    if args.near_duplicates:
        print("\n" + findings.near_duplicates(cache, best, device=args.device))
    for run in [*runs, *([top] if args.ceiling else [])]:
        print(f"run: {run.path}")
    return 0


def check(args) -> None:
    """BadInput for options that contradict each other, before anything is loaded."""
    if len(args.cache) > 1 and (args.recipe or not args.sweep):
        raise BadInput("only a sweep compares several caches: give --sweep, and no --recipe")
    if args.recipe and args.lr and not args.sweep:
        raise BadInput("--recipe brings its own learning rate: leave out --lr, or scale the recipe's with --lr-scale X")
    if args.head and not (args.lr or args.sweep):
        raise BadInput("--head needs a learning rate: give --lr X, or --sweep to find one")
    if args.lr_scale != 1 and not args.recipe and (args.lr or args.sweep):
        raise BadInput(
            "--lr-scale multiplies the rates of recipes, and no recipe is run: name one with --recipe, or give --lr the rate itself"
        )
    for name in args.recipe or []:
        if name.endswith(".h5"):
            raise BadInput(f"{name} is a cache where a recipe's name is expected: give it before --recipe")


if __name__ == "__main__":
    sys.exit(cli.run(main))
