"""Stage 2: train classifier heads on the vectors of a cache. Needs no encoder: a cache carried to a laptop is enough.

Without --recipe, --sweep or --lr it trains the four published head recipes 1C3, 1C4, 3C4 and 3C4-big. The digit is the
number of zeros after the decimal point of the learning rate: 3 is 0.0001, 4 is 0.00001.
"""

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

from twostage import cli
from twostage.errors import BadInput
from twostage.recipes import DIGIT_RULE, find_recipe, recipes_of, scaled

EXAMPLES = """examples:
  python train_head.py                                     the four recipes on the only cache in cache/
  python train_head.py cache/news-bert-1a2b3c4d.h5 --recipe 1C3 --seeds 5
  python train_head.py --sweep                             13 learning rates x 3 seeds at once
  python train_head.py --sweep --head 1C 3C --lr 1e-4 1e-3 1e-2
  python train_head.py --head 3C --lr 1e-3 --epochs 10
  python train_head.py --ceiling --learning-curve
"""


def build_parser() -> cli.Parser:
    parser = cli.Parser(prog="train_head.py", description=__doc__, epilog=EXAMPLES, usage="train_head.py [CACHE] [options]")
    parser.add_argument(
        "cache", nargs="?", type=Path, metavar="CACHE", help="an .h5 file of extract.py (default: the only one in cache/)"
    )
    what = parser.add_argument_group("what to train")
    what.add_argument("--recipe", nargs="+", metavar="NAME", help="of 1C3, 1C4, 3C4, 3C4-big (default: all four)")
    what.add_argument("--sweep", action="store_true", help="a grid of heads at once, best chosen on val")
    what.add_argument(
        "--ceiling", action="store_true", help="fit the best possible 1-layer head too, and say how far each run stays behind"
    )
    what.add_argument(
        "--learning-curve", action="store_true", help="train the chosen head on 1, 3, 10, 30 and 100 %% of the documents too"
    )
    head = parser.add_argument_group("heads")
    head.add_argument("--head", nargs="+", choices=("1C", "3C", "3C-big"), help="shapes (default: 1C)")
    head.add_argument(
        "--lr", nargs="+", type=cli.learning_rate, metavar="X",
        help="learning rates (sweep: 13 from 1e-5 to 1e-1; without --sweep: one run each)",
    )  # fmt: skip
    head.add_argument(
        "--seeds", type=cli.whole_number(1, "--seeds"), metavar="N",
        help="start each head from seeds 0..N-1 (default: 3 in a sweep, else the one --seed)",
    )  # fmt: skip
    head.add_argument(
        "--epochs", type=cli.whole_number(1, "--epochs"), metavar="N",
        help="passes over the training documents (default: the recipe's own, else 20)",
    )  # fmt: skip
    head.add_argument(
        "--batch-size", nargs="+", type=cli.whole_number(1, "--batch-size"), metavar="N", help="documents a step (default: 64)"
    )
    head.add_argument(
        "--weight-decay", nargs="+", type=cli.number("a weight decay", 0, 1000), metavar="X",
        help="decoupled, as AdamW's (default: 0, which is plain Adam)",
    )  # fmt: skip
    head.add_argument(
        "--class-weight", choices=("none", "balanced"), default="none",
        help="weight of a class in the loss; balanced is n / (classes x its count) (default: none)",
    )  # fmt: skip
    head.add_argument(
        "--activation", choices=("relu", "gelu", "tanh", "none"), default="relu",
        help="between the layers of 3C and 3C-big (default: relu; it was not published)",
    )  # fmt: skip
    head.add_argument(
        "--lr-scale", type=cli.number("--lr-scale", 0, 1e9, open_low=True), default=1.0, metavar="X",
        help="multiplies the recipes' rates; 100 names the run 1C4-x100 (default: 1)",
    )  # fmt: skip
    run = parser.add_argument_group("run")
    run.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    run.add_argument(
        "--seed", type=cli.whole_number(0, "--seed"), default=0, metavar="N",
        help="of a head's start and of the documents' order (default: 0)",
    )  # fmt: skip
    run.add_argument(
        "--cache-dir", type=Path, default=Path("cache"), metavar="DIR", help="where CACHE is looked for (default: cache)"
    )
    run.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="folder of the run folders (default: runs)"
    )
    return parser


def main(argv=None) -> int:
    args = build_parser().parse_args(argv)
    check(args)
    recipes = chosen_recipes(args)
    if args.lr_scale != 1 and not recipes:
        raise BadInput(
            "--lr-scale multiplies the rates of recipes, and none is run: name them with --recipe, or give --lr the rate itself"
        )

    # 1. All vectors into memory, once.
    from twostage.cache.reader import find_cache
    from twostage.encoder.encoder import resolve_device
    from twostage.heads import ceiling as ceiling_of
    from twostage.heads import data as head_data
    from twostage.heads import learning_curve, sweep, sweep_table
    from twostage.heads import training as head_runs
    from twostage.progress import say
    from twostage.report import tables
    from twostage.report.build import write_report
    from twostage.runs.folder import add_to_run

    data = head_data.load(args.cache or find_cache(args.cache_dir), resolve_device(args.device))
    head_data.say_batches(data, args.batch_size or [64])
    if args.activation == "none" and any(head != "1C" for head in [*(args.head or []), *(r.head for r in recipes)]):
        say("--activation none: three linear layers without one between them are one linear layer")

    changed = {"--epochs": args.epochs, "--batch-size": args.batch_size, "--weight-decay": args.weight_decay}
    changed = [name for name, value in changed.items() if value]
    if recipes and changed and not args.sweep:
        say(f"the recipes run with your {', '.join(changed)}, not with their own")

    # 2. One run a recipe, or a combination of the given settings.
    seeds = tuple(range(args.seeds)) if args.seeds else (args.seed,)
    common = head_runs.Common(args.runs_dir, seeds, args.seed, args.activation, args.class_weight, args.lr_scale)
    records = []
    for job in jobs(args, recipes):
        records.append(head_runs.train_run(data, job, common))
        write_report(args.runs_dir)
    if records:
        print(tables.accuracy_table(records))

    # 3. A grid of rates and seeds in one pass, the best chosen on val.
    if args.sweep:
        seeds = tuple(range(args.seeds or 3))
        records.append(sweep.run_sweep(data, grid(args), replace(common, seeds=seeds, lr_scale=1.0)))
        write_report(args.runs_dir)
        print("\n" * (len(records) > 1) + sweep_table.sweep_table(records[-1], data.cache.path))

    # 4. The best that one layer can do on these vectors, and what more labels would bring.
    if args.ceiling:
        ceiling = ceiling_of.run_ceiling(data, common)
        write_report(args.runs_dir)
        print("\n" + ceiling_of.ceiling_text(ceiling, records))
    if args.learning_curve:
        best = max(records, key=val_accuracy)
        curve = learning_curve.learning_curve(data, best, common)
        add_to_run(best["path"], learning_curve=curve)
        print("\n" + learning_curve.curve_table(curve, best))
    for record in [*records, *([ceiling] if args.ceiling else [])]:
        print(f"run: {record['path']}")
    return 0


def val_accuracy(record: dict) -> float:
    return record["epochs"][record["best_epoch"] - 1]["val_accuracy"]


def check(args) -> None:
    """BadInput for options that contradict each other, before anything is loaded."""
    if args.recipe and args.lr and not args.sweep:
        raise BadInput("--recipe brings its own learning rate: leave out --lr, or scale the recipe's with --lr-scale X")
    if args.head and not (args.lr or args.sweep):
        raise BadInput("--head needs a learning rate: give --lr X, or --sweep to find one")
    for name in args.recipe or []:
        if name.endswith(".h5"):
            raise BadInput(f"{name} stands where a recipe's name is read: give the cache before --recipe")


def chosen_recipes(args) -> list:
    """The recipes to run: those named, or all four when nothing else is asked for."""
    if not args.recipe and (args.sweep or args.lr):
        return []
    names = list(dict.fromkeys(args.recipe or recipes_of("train_head.py")))
    found = [scaled(find_recipe(name, "train_head.py"), args.lr_scale) for name in names]
    for recipe in found:
        if recipe.head_lr > 1000:
            raise BadInput(f"--lr-scale {args.lr_scale:g} makes the rate of {recipe.name} {recipe.head_lr:g}: {DIGIT_RULE}")
    return found


def grid(args):
    """The sweep's grid: its defaults, narrowed or widened by the lists given."""
    from twostage.heads.sweep import Grid

    given = {"heads": args.head, "lrs": args.lr, "weight_decays": args.weight_decay, "batch_sizes": args.batch_size}
    lists = {name: tuple(dict.fromkeys(values)) for name, values in given.items() if values}
    return Grid(**lists, **({"epochs": args.epochs} if args.epochs else {}))


def jobs(args, recipes) -> list:
    """The runs to do, with the settings that the user changed."""
    from twostage.heads.training import EPOCHS, Job, recipe_job

    sizes = list(dict.fromkeys(args.batch_size or [64]))
    decays = list(dict.fromkeys(args.weight_decay or [0.0]))
    todo = [recipe_job(recipe, epochs=None if args.sweep else args.epochs) for recipe in recipes]
    if args.lr and not args.sweep:
        grid = product(dict.fromkeys(args.head or ["1C"]), dict.fromkeys(args.lr))
        todo = [Job(f"{head}-lr{lr!r}", head, lr, args.epochs or EPOCHS) for head, lr in grid]
    elif args.sweep:  # the lists belong to the sweep's grid
        return todo
    return [replace(job, batch_size=size, weight_decay=decay) for job in todo for size in sizes for decay in decays]


if __name__ == "__main__":
    sys.exit(cli.run(main))
