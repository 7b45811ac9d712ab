"""End to end: train BERT and a classifier on its [CLS] vector together, on transformers' Trainer.

Without --recipe or rates it trains B4C3: BERT at 0.00001 and a one-layer classifier at 0.0001. The digit is the number of
zeros after the decimal point of the learning rate. A part without a rate is frozen.
"""

import os
import sys
import tempfile
from pathlib import Path

from twostage import cli
from twostage.errors import BadInput
from twostage.finetuning.jobs import corpus_digest, jobs_of, open_run, something_to_resume
from twostage.progress import say

EXAMPLES = """examples:
  python finetune.py THUCNews --recipe B4C3 B4C4 B4 --max-length 256
  python finetune.py THUCNews --recipe B4 --init-head runs/1C3 --activation-checkpointing
"""


def build_parser() -> cli.Parser:
    parser = cli.Parser(prog="finetune.py", description=__doc__, epilog=EXAMPLES, usage="finetune.py CORPUS [options]")
    cli.add_corpus_options(parser)
    what = parser.add_argument_group("what to train")
    what.add_argument("--recipe", nargs="+", metavar="NAME", help="of B4C3, B4C4, B4, one after another (default: B4C3)")
    what.add_argument("--encoder-lr", type=cli.learning_rate, metavar="X", help="BERT's learning rate (default: frozen)")
    what.add_argument("--head-lr", type=cli.learning_rate, metavar="X", help="the classifier's (default: frozen)")
    what.add_argument("--head", choices=("1C", "3C", "3C-big"), help="classifier, with rates of your own (default: 1C)")
    what.add_argument(
        "--activation", choices=("relu", "gelu", "tanh", "none"), default="relu",
        help="between the layers of 3C and 3C-big (default: relu)",
    )  # fmt: skip
    what.add_argument("--init-head", type=Path, metavar="RUN", help="start the classifier from this run of train_head.py")
    what.add_argument(
        "--lr-scale", type=cli.number("--lr-scale", 0, 1e9, open_low=True), default=1.0, metavar="X",
        help="multiplies the recipes' rates; 100 names the run B4C3-x100 (default: 1)",
    )  # fmt: skip
    how = parser.add_argument_group("how")
    how.add_argument(
        "--epochs", type=cli.whole_number(1, "--epochs"), metavar="N", help="passes over train (default: the recipe's, 4)"
    )
    how.add_argument(
        "--batch-size", type=cli.whole_number(1, "--batch-size"), default=64, metavar="N",
        help="documents an optimizer step (default: 64)",
    )  # fmt: skip
    how.add_argument(
        "--warmup-fraction", type=cli.number("--warmup-fraction", 0, 1), default=0.0, metavar="X",
        help="part of all steps over which the rates rise from 0; they are constant after it (default: 0, off)",
    )  # fmt: skip
    how.add_argument(
        "--weight-decay", type=cli.number("--weight-decay", 0, 1000), default=0.0, metavar="X",
        help="decoupled, never on biases and LayerNorm (default: 0, off)",
    )  # fmt: skip
    how.add_argument(
        "--class-weight", choices=("none", "balanced"), default="none",
        help="weight of a class in the loss; balanced is n / (classes x its count) (default: none)",
    )  # fmt: skip
    memory = parser.add_argument_group("memory and interruption")
    memory.add_argument(
        "--micro-batch", type=micro_batch, default="auto", metavar="N",
        help="documents at a time: changes memory, not the result; auto takes what fits (default: auto)",
    )  # fmt: skip
    memory.add_argument(
        "--activation-checkpointing", action="store_true",
        help="keep a fraction of the activations and compute the rest again: less memory, more time",
    )  # fmt: skip
    memory.add_argument("--resume", action="store_true", help="go on with the newest incomplete run of these settings")
    memory.add_argument(
        "--checkpoint-minutes", type=cli.number("--checkpoint-minutes", 0, 1e6), default=5.0, metavar="X",
        help="at most so long between checkpoints; there is one after each epoch too (default: 5)",
    )  # fmt: skip
    memory.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="folder of the run folders (default: runs)"
    )
    return parser


def micro_batch(text: str):
    """An argparse type: auto or a whole number."""
    return text if text == "auto" else cli.whole_number(1, "--micro-batch")(text)


def main(argv=None) -> int:
    args = build_parser().parse_args(argv)
    jobs = jobs_of(args)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BadInput("started as one of several processes: finetune.py trains in one; start it without torchrun")
    if args.resume:
        something_to_resume(args.runs_dir, jobs)
    check_writable(args.runs_dir)

    # 1. The corpus, and the model that it is to be trained with: all that can be wrong shows before any work.
    from twostage.corpus.reader import read_corpus
    from twostage.demo import corpus_and_bert as demo

    path, model = demo.resolve(args.corpus, args.model, args.cache_dir)
    corpus = read_corpus(path, per_class=args.per_class, encoding=args.encoding, on_undecodable=args.on_undecodable)
    for line in corpus.describe():
        say(line)
    check_splits(corpus, path)

    from twostage.encoder.checkpoint import find_model
    from twostage.encoder.encoder import load_tokenizer, resolve_device, resolve_dtype
    from twostage.encoder.settings import encoder_settings
    from twostage.encoder.tokenizer import Tokens

    folder = find_model(model)
    device = resolve_device(args.device)
    dtype = resolve_dtype(args.dtype, device)
    if dtype == "float16" and device == "cpu":
        raise BadInput("--dtype float16 trains on a GPU only: give float32 or bfloat16")
    encoder = encoder_settings(
        folder, max_length=args.max_length, truncation=args.truncation, pooling="cls", compute_dtype=dtype
    )
    tokenizer = load_tokenizer(folder)

    # 2. Every document tokenized, once for all runs and epochs.
    import numpy as np

    from twostage import SPLITS
    from twostage.finetuning.dataset import tokenize

    tokens = Tokens(tokenizer, args.max_length, args.truncation)
    rows = {
        name: tokenize(corpus, np.flatnonzero(corpus.split == number), tokens, f"tokenizing {name}")
        for number, name in enumerate(SPLITS)
    }

    # 3. One run a recipe: BERT from its files, a fresh classifier, all epochs, then test once at the best of them.
    from twostage.finetuning.run import Setting, train_job
    from twostage.report.build import write_report
    from twostage.report.tables import accuracy_table, comparison_lines

    setting = Setting(args, corpus, path, folder, tokenizer, rows, encoder, device, dtype)
    settings = {
        "corpus": {
            "path": str(Path(path).resolve()), "name": corpus.name, "format": corpus.format, "per_class": args.per_class,
            "encoding": args.encoding, "on_undecodable": args.on_undecodable,
        },
        "corpus_digest": corpus_digest(corpus),
    }  # fmt: skip
    records = []
    for job in jobs:
        record = train_job(setting, job, settings, open_run)
        write_report(args.runs_dir)
        records.append(record)
    print(accuracy_table(records))
    for record in records:
        if record.get("against_frozen"):
            print("\n".join(["", *comparison_lines(record["against_frozen"])]))
    for record in records:
        print(f"run: {record['path']}")
    return 0


def check_writable(runs_dir: Path) -> None:
    """BadInput where no run could be written, before any work."""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs_dir):
            pass
    except OSError as error:
        raise BadInput(f"cannot write to {runs_dir} ({error.strerror}): give a --runs-dir that can be written to") from None


def check_splits(corpus, path) -> None:
    """BadInput for an empty split or a train with one class; classes that train lacks are said."""
    from twostage import SPLITS

    for number, name in enumerate(SPLITS):
        if not (corpus.split == number).any():
            raise BadInput(
                f"{path}: {name} is empty: {len(corpus):,} documents are too few; give more, or a larger --per-class"
            )
    if len(set(corpus.label[corpus.split == 0].tolist())) < 2:
        raise BadInput(f"{path}: train has a single class; two are needed to tell apart")
    absent = corpus.classes_without_train()
    if absent:
        say(f"classes without a document in train, never learned: {', '.join(absent)}")


if __name__ == "__main__":
    sys.exit(cli.run(main))
