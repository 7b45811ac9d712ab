"""End to end: train BERT and a classifier on its [CLS] vector together, on transformers' Trainer.

Without --recipe or rates it trains B4C3: BERT at 0.00001 and a one-layer classifier at 0.0001. The digit is the number of
zeros after the decimal point of the learning rate. A part without a rate is frozen.
"""

import os
import sys

import twostage as ts
from twostage import cli
from twostage.api.settings import BOUNDS, CHOICES
from twostage.memory import keep_freed_memory

SETTINGS = (
    *cli.CORPUS_SETTINGS, *cli.ENCODER_SETTINGS, "head", "encoder_lr", "head_lr", "epochs", "batch_size", "micro_batch",
    "activation_checkpointing", "checkpoint_minutes", "warmup_fraction", "weight_decay", "class_weight", "activation",
    "init_head", "lr_scale", "resume", "tensorboard", "seed", "runs_dir", "cache_dir",
)  # fmt: skip

ENVIRONMENT = {  # read when torch is loaded
    # A thread that waits for one which another program holds up sleeps soon, and gives way.
    "GOMP_SPINCOUNT": "10000",
    # oneDNN makes a kernel for each shape of batch; each that it keeps stands between pieces of freed memory, which cannot join.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
}

EXAMPLES = """examples:
  python finetune.py THUCNews --recipe B4C3 B4C4 B4 --max-length 256
  python finetune.py THUCNews --recipe B4 --init-head runs/1C3 --activation-checkpointing
  torchrun --nproc-per-node 8 finetune.py THUCNews      the same batches on eight GPUs
"""


def build_parser() -> cli.Parser:
    parser = cli.Parser(prog="finetune.py", description=__doc__, epilog=EXAMPLES, usage="finetune.py CORPUS [options]")
    cli.add_corpus_options(parser)
    what = parser.add_argument_group("what to train")
    what.add_argument(
        "--recipe", nargs="+", metavar="NAME", help="one or more of B4C3, B4C4 and B4, one after another (default: B4C3)"
    )
    what.add_argument("--encoder-lr", type=cli.learning_rate, metavar="X", help="BERT's learning rate (default: frozen)")
    what.add_argument("--head-lr", type=cli.learning_rate, metavar="X", help="the classifier's (default: frozen)")
    what.add_argument("--head", choices=CHOICES["head"], help="classifier, with rates of your own (default: 1C)")
    cli.add_shared(what, "--activation")
    what.add_argument("--init-head", type=cli.path, metavar="RUN", help="start the classifier from this run of train_head.py")
    cli.add_shared(what, "--lr-scale")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--epochs", type=cli.whole_number("--epochs"), metavar="N", help="passes over train (default: the recipe's, 4)"
    )
    how.add_argument(
        "--batch-size", type=cli.whole_number("--batch-size"), default=64, metavar="N",
        help="documents per optimizer step (default: 64)",
    )  # fmt: skip
    how.add_argument(
        "--warmup-fraction", type=cli.number("--warmup-fraction", *BOUNDS["warmup_fraction"]), default=0.0, metavar="X",
        help="fraction of all steps over which the rates rise from 0; they are constant afterwards (default: 0, off)",
    )  # fmt: skip
    how.add_argument(
        "--weight-decay", type=cli.number("--weight-decay", *BOUNDS["weight_decay"]), default=0.0, metavar="X",
        help="decoupled, never on biases and LayerNorm (default: 0, off)",
    )  # fmt: skip
    cli.add_shared(how, "--class-weight")
    memory = parser.add_argument_group("memory and interruption")
    memory.add_argument(
        "--micro-batch", type=cli.whole_number("--micro-batch"), default="auto", metavar="N",
        help="documents at a time: changes memory, not the result; auto takes what fits (default: auto)",
    )  # fmt: skip
    memory.add_argument(
        "--activation-checkpointing", action="store_true",
        help="keep a fraction of the activations and recompute the rest: less memory, more time",
    )  # fmt: skip
    memory.add_argument("--resume", action="store_true", help="continue the newest incomplete run with these settings")
    memory.add_argument(
        "--checkpoint-minutes", type=cli.number("--checkpoint-minutes", *BOUNDS["checkpoint_minutes"]), default=5.0, metavar="X",
        help="at most so many minutes between checkpoints; each epoch ends with one too (default: 5)",
    )  # fmt: skip
    cli.add_shared(memory, "--tensorboard", "--runs-dir")
    return parser


def main(argv=None) -> int:
    args = build_parser().parse_args(argv)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()
    found = ts.finetune(args.corpus, recipe=args.recipe, **{name: getattr(args, name) for name in SETTINGS})
    runs = found if args.recipe else [found]

    from twostage.api.finetuning import against_frozen
    from twostage.api.training import table

    print(table(runs))
    for run in runs:
        if run.record.get("against_frozen"):
            print("\n" + against_frozen(run))
    for run in runs:
        print(f"run: {run.path}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main, several=True))
