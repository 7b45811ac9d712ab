"""Heads a second: ours beside a DataLoader loop, a tuned tensor loop and scikit-learn, on random vectors.

python benchmarks/heads.py                         32 linear heads, 30,000 x 768 vectors, 14 classes, 2 epochs of batch 64
python benchmarks/heads.py --head 3C --heads 4 --documents 6000
python benchmarks/heads.py --loops 4               time only 4 of the 32 loops and say the rest by rule of three
python benchmarks/heads.py --head 3C --busy 2      ours alone, idle and beside two processes that never rest
python benchmarks/heads.py --device cuda           everything on a GPU

Every contender trains the same heads on the same vectors for the same epochs; rounds alternate, medians count.
"""

import argparse
import math
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twostage.heads.bank import HeadBank, Trial
from twostage.models.head import build_head
from twostage.runs.shuffle import epoch_order


def dataloader_loop(X, y, head: str, trial: Trial, epochs: int) -> nn.Module:
    """What most people write: TensorDataset, DataLoader, autograd, Adam as it comes."""
    from torch.utils.data import DataLoader, TensorDataset

    module = build_head(head, X.shape[1], int(y.max()) + 1, seed=trial.seed).to(X.device)
    optimizer = torch.optim.Adam(module.parameters(), lr=trial.lr)
    loss_of = nn.CrossEntropyLoss()
    loader = DataLoader(TensorDataset(X, y), batch_size=64, shuffle=True)
    for _ in range(epochs):
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss_of(module(inputs), labels).backward()
            optimizer.step()
    return module


def tensor_loop(X, y, head: str, trial: Trial, epochs: int) -> nn.Module:
    """The same tuned: indexes into one tensor, no DataLoader, fused Adam."""
    module = build_head(head, X.shape[1], int(y.max()) + 1, seed=trial.seed).to(X.device)
    optimizer = torch.optim.Adam(module.parameters(), lr=trial.lr, fused=True)
    for epoch in range(1, epochs + 1):
        for rows in epoch_order(len(y), 0, epoch).to(X.device).split(64):
            loss = nn.functional.cross_entropy(module(X[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return module


def ours(X, y, head: str, trials: list[Trial], epochs: int) -> HeadBank:
    bank = HeadBank(trials, X.shape[1], int(y.max()) + 1, device=X.device)
    for epoch in range(1, epochs + 1):
        bank.train_epoch(X, y, epoch_order(len(y), 0, epoch).to(X.device), 64)
    return bank


@contextmanager
def busy(processes: int):
    """Other work on the machine: processes that multiply matrices on one thread each, without end."""
    endless = "import torch; torch.set_num_threads(1); a = torch.rand(512, 512); print(flush=True)\nwhile True: a @ a"
    others = [subprocess.Popen([sys.executable, "-c", endless], stdout=subprocess.PIPE) for _ in range(processes)]
    try:
        for other in others:
            other.stdout.readline()
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def beside_others(X, y, args, trials) -> None:
    """Ours, idle and beside busy processes, rounds in turn."""
    works = {f"one {args.head} head": trials[:1], f"bank of {len(trials)}": trials}
    found = {name: ([], []) for name in works}
    for _ in range(args.rounds):
        for name, some in works.items():
            found[name][0].append(clock(ours, X, y, args.head, some, args.epochs))
            with busy(args.busy):
                found[name][1].append(clock(ours, X, y, args.head, some, args.epochs))
    print(
        f"{args.documents:,} x {args.hidden} vectors, {args.classes} classes, batch 64, {args.epochs} epochs; {torch.get_num_threads()} "
        f"threads; seconds, medians of {args.rounds}\n{'':20} {'idle':>9} {f'beside {args.busy}':>9}"
    )
    for name, (idle, beside) in found.items():
        idle, beside = statistics.median(idle), statistics.median(beside)
        print(f"{name:20} {idle:9.2f} {beside:9.2f}   {beside / idle:.1f}x")


def clock(work, *args) -> float:
    start = time.perf_counter()
    work(*args)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=32, help="heads in the bank (default: 32)")
    parser.add_argument("--loops", type=int, help="loops really run of those heads (default: all)")
    parser.add_argument("--head", default="1C", choices=("1C", "3C", "3C-big"))
    parser.add_argument("--documents", type=int, default=30_000)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="rounds in turn, medians count (default: 3)")
    parser.add_argument("--no-sklearn", action="store_true")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--busy", type=int, metavar="N", help="time ours alone, idle and beside N busy processes")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    y = torch.randint(0, args.classes, (args.documents,))
    X = torch.randn(args.classes, args.hidden)[y] * 0.1 + torch.randn(args.documents, args.hidden)
    X, y = X.to(args.device), y.to(args.device)
    X16 = X.half()
    trials = [Trial(i, args.head, 10 ** (-5 + 4 * i / max(1, args.heads - 1)), i % 3) for i in range(args.heads)]
    if args.busy:
        beside_others(X, y, args, trials)
        return 0
    loops = min(args.loops or args.heads, args.heads)
    rows: dict[str, list[float]] = {}

    def take(name: str, seconds: float) -> None:
        rows.setdefault(name, []).append(seconds)

    for _ in range(args.rounds):
        take("DataLoader loop", sum(clock(dataloader_loop, X, y, args.head, t, args.epochs) for t in trials[:loops]) / loops)
        take("tensor loop", sum(clock(tensor_loop, X, y, args.head, t, args.epochs) for t in trials[:loops]) / loops)
        take("one head", clock(ours, X16, y, args.head, trials[:1], args.epochs))
        take("bank, float32 vectors", clock(ours, X, y, args.head, trials, args.epochs))
        take("bank, float16 vectors", clock(ours, X16, y, args.head, trials, args.epochs))
        bank = HeadBank(trials, args.hidden, args.classes, device=X.device)
        take("evaluation", clock(bank.confusion, X16, y, torch.arange(len(y) // 10, device=X.device)))
    median = {name: statistics.median(values) for name, values in rows.items()}
    print(
        f"{args.heads} {args.head} heads, {args.documents:,} x {args.hidden} vectors, {args.classes} classes, batch 64, "
        f"{args.epochs} epochs; torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads; medians of {args.rounds}"
        + (f"; {loops} loops timed" if loops < args.heads else "")
    )
    total = args.heads * median["tensor loop"]
    steps = args.epochs * math.ceil(args.documents / 64)
    print(f"{'':34} {'seconds':>9} {'a head':>9} {'us/step':>9} {'speed':>8}")
    for label, seconds, heads in [
        (f"{args.heads} DataLoader loops", args.heads * median["DataLoader loop"], args.heads),
        (f"{args.heads} tensor loops", total, args.heads),
        ("ours, one bank, float32 vectors", median["bank, float32 vectors"], args.heads),
        ("ours, one bank, float16 vectors", median["bank, float16 vectors"], args.heads),
        ("ours, one head alone", median["one head"], 1),
    ]:
        speed = median["tensor loop"] / (seconds / heads)
        print(f"{label:34} {seconds:9.2f} {seconds / heads:9.3f} {seconds / steps * 1e6:9.0f} {speed:7.1f}x")
    print(f"{'evaluation of the bank, 10 % as val':34} {median['evaluation']:9.3f}")
    bank_seconds = min(median["bank, float32 vectors"], median["bank, float16 vectors"])
    print(f"the bank against DataLoader loops: {args.heads * median['DataLoader loop'] / bank_seconds:.1f}x")
    if args.head == "1C" and not args.no_sklearn:
        from sklearn.linear_model import LogisticRegression

        seconds = clock(LogisticRegression(C=1.0, max_iter=200).fit, X.cpu().numpy(), y.cpu().numpy())
        print(f"{'scikit-learn, one LogisticRegression':34} {seconds:9.2f} {seconds:9.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
