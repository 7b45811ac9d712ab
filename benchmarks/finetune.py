"""Fine-tuning: documents a second and peak memory, ours beside a plain float32 loop padded to the maximum length.

python benchmarks/finetune.py                         BERT-base on a GPU; two of its layers on a CPU
python benchmarks/finetune.py --lengths mixed --max-length 256 --steps 30
python benchmarks/finetune.py --device cpu --layers 2 --hidden 256 --batch-size 16

Every contender is a process of its own, so that its memory is its own. The model has seeded random weights: speed and memory
are those of a trained one. Documents are random tokens, all of --max-length (full) or of 16 to --max-length (mixed). The first two
steps are not timed. On a GPU memory is what tensors took at most, on a CPU what the process took at most. A micro-batch of 16 is
what --micro-batch auto, the default, takes of documents of 256 tokens on a CPU. Ours has the environment that finetune.py gives itself.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from finetune import ENVIRONMENT  # the script's, of the repository's root

CONTENDERS = {
    "float32 loop, padded": "loop",
    "ours, float32": {"dtype": "float32"},
    "ours": {},
    "ours, micro-batch 16": {"micro_batch": 16},
    "ours, float32, micro-batch 16": {"dtype": "float32", "micro_batch": 16},
    "ours, activation checkpointing": {"activation_checkpointing": True},
    "head alone, from cached vectors": "head",
}
PUBLISHED = "published, batch 64: BERT and classifier 20.9 GB, BERT alone 20.58 GB, classifier alone 2.37 GB (length not said)"


def model_of(args):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=21128, hidden_size=args.hidden, num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 64, intermediate_size=4 * args.hidden,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False)


def rows_of(args):
    from twostage.finetuning.dataset import TokenRows

    rng = np.random.default_rng(0)
    n = args.batch_size * args.steps
    counts = np.full(n, args.max_length) if args.lengths == "full" else rng.integers(16, args.max_length + 1, n)
    ids = rng.integers(1000, 20000, counts.sum()).astype(np.uint16)
    return TokenRows(ids, np.concatenate([[0], np.cumsum(counts)]), rng.integers(0, 14, n).astype(np.int32))


def plain_loop(args, device) -> list[float]:
    """What one writes first: float32, every batch padded to the maximum length, in the order of the corpus."""
    from twostage.models.head import build_head

    bert, head, rows = model_of(args).to(device).train(), build_head("1C", args.hidden, 14).to(device), rows_of(args)
    optimizer = torch.optim.Adam([{"params": bert.parameters(), "lr": 1e-5}, {"params": head.parameters(), "lr": 1e-4}])
    seconds = []
    for first in range(0, len(rows), args.batch_size):
        start = time.perf_counter()
        batch = rows.batch(list(range(first, first + args.batch_size)), 0)
        short = args.max_length - batch["input_ids"].shape[1]
        mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
        ids, mask = (torch.nn.functional.pad(one, (0, short)).to(device) for one in (batch["input_ids"], mask))
        logits = head(bert(ids, attention_mask=mask).last_hidden_state[:, 0])
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, batch["labels"].to(device)).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def ours(args, device, changes: dict) -> list[float]:
    """FineTuner as finetune.py uses it, timed step by step."""
    from transformers import TrainerCallback

    from twostage.encoder.encoder import resolve_dtype
    from twostage.finetuning.parts import TrainingPlan
    from twostage.finetuning.trainer import FineTuner
    from twostage.memory import keep_freed_memory
    from twostage.models.classifier import join
    from twostage.models.head import build_head
    from twostage.models.products import quick_float32
    from twostage.runs.folder import create_run

    seconds = []

    class Stopwatch(TrainerCallback):
        def on_train_begin(self, *_, **__):
            self.start = time.perf_counter()

        def on_step_end(
            self, *_, **__
        ):  # from the last step's end: putting the batch together and its copy count, as in the loop
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - self.start)
            self.start = time.perf_counter()

    dtype = getattr(torch, changes.get("dtype") or resolve_dtype("auto", str(device)))
    plan = TrainingPlan(
        encoder_lr=1e-5, head_lr=1e-4, epochs=1, batch_size=args.batch_size, seed=0, device=device, dtype=dtype,
        micro_batch=min(changes.get("micro_batch", args.batch_size), args.batch_size),
        activation_checkpointing=changes.get("activation_checkpointing", False),
    )  # fmt: skip
    model = join(model_of(args), build_head("1C", args.hidden, 14), "1C", "relu", [str(i) for i in range(14)])
    rows = rows_of(args)
    with tempfile.TemporaryDirectory() as folder:
        tuner = FineTuner(model, plan, rows, rows, 0, create_run(Path(folder), "speed", {}))
        tuner.end_epoch = lambda: None  # neither val nor weights on the disk belong to the step
        tuner._save_checkpoint = lambda *_: None
        tuner.add_callback(Stopwatch())
        tuner.bar, tuner.started = Silent(), time.monotonic()
        keep_freed_memory()
        with quick_float32(device):
            tuner.train()
    return seconds


class Silent:
    def advance(self, *_, **__):
        pass


def head_alone(args, device) -> list[float]:
    """The classifier of 1C3 on vectors that are already there."""
    from twostage.heads.bank import HeadBank, Trial
    from twostage.runs.shuffle import epoch_order

    n = args.batch_size * args.steps
    X, y = torch.randn(n, args.hidden, device=device), torch.arange(n, device=device) % 14
    bank = HeadBank([Trial(0, "1C", 1e-4, 0)], args.hidden, 14, device=device)
    start = time.perf_counter()
    bank.train_epoch(X, y, epoch_order(n, 0, 1).to(device), args.batch_size)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return [(time.perf_counter() - start) / args.steps] * args.steps


def measure(args) -> dict:
    from twostage import memory

    device, kind = torch.device(args.device), CONTENDERS[args.only]
    memory.reset_peak(device)
    if kind == "loop":
        seconds = plain_loop(args, device)
    elif kind == "head":
        seconds = head_alone(args, device)
    else:
        seconds = ours(args, device, kind)
    timed = seconds[2:] or seconds
    return {"documents_per_second": args.batch_size * len(timed) / sum(timed), "peak": memory.peak_bytes(device)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument("--layers", type=int, default=12 if gpu else 2)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30 if gpu else 4)
    parser.add_argument("--lengths", choices=("full", "mixed"), default="full")
    parser.add_argument("--only", choices=CONTENDERS, help="measure one in this process and print it as JSON")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args)))
        return
    where = (
        torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else f"{torch.get_num_threads()} CPU threads"
    )
    print(
        f"{args.layers} layers of {args.hidden}, batch {args.batch_size}, {args.lengths} lengths to {args.max_length} tokens, "
        f"{args.steps} steps; {where}, torch {torch.__version__}"
    )
    print(f"| {'':32} | documents/s | times the loop | peak GB |\n|---|---|---|---|")
    first = None
    for name in CONTENDERS:
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in vars(args).items() if key != "only"]
        environment = os.environ | (ENVIRONMENT if name.startswith("ours") else {})
        command = [sys.executable, __file__, *flags, "--only", name]
        made = subprocess.run(command, env=environment, capture_output=True, text=True)
        if made.returncode:
            print(f"| {name:32} | {made.stderr.strip().splitlines()[-1][:80]} | | |")
            continue
        found = json.loads(made.stdout.strip().splitlines()[-1])
        first = first or found["documents_per_second"]
        speed = found["documents_per_second"]
        print(f"| {name:32} | {speed:,.1f} | {speed / first:.2f} | {found['peak'] / 1e9:.2f} |", flush=True)
    print(PUBLISHED)


if __name__ == "__main__":
    main()
