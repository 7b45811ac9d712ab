"""Many heads of one shape trained at once, on the same minibatches, each with its own rate, start and weight decay.

A head in a bank ends where the same head ends when trained alone with torch.optim.Adam (AdamW with weight decay):
same start, same batches, equal within float32 rounding. The backward pass is written by hand; no autograd runs.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from twostage import metrics
from twostage.heads.bank_thread import Shard
from twostage.heads.team import Team, at_work
from twostage.models.head import build_head, layer_sizes, linear_layers
from twostage.models.products import quick_float32
from twostage.runs.shuffle import epoch_order

MOST_WORKERS = 4  # more threads would wait for Python's lock
HEADS_A_WORKER = 4
SMALL_BYTES = 1 << 21  # below, a step's operations are too short to share among threads


@dataclass
class Trial:
    """One head of a bank, and what became of it. `index` is its key; rates are exact, never rounded into a name."""

    index: int
    head: str
    lr: float
    seed: int
    weight_decay: float = 0.0
    batch_size: int = 64
    standardize: bool = False  # trained on vectors of mean 0 and deviation 1; the head that is kept takes the raw ones
    epochs: list[dict] = field(default_factory=list)  # epoch, train_loss, val_accuracy, val_macro_f1, seconds
    best_epoch: int | None = None
    diverged_epoch: int | None = None
    view: int | None = None  # the number of its cache, in a sweep over several

    @property
    def best(self) -> dict | None:
        """The record of the best epoch: highest val_accuracy, earliest on a tie."""
        return self.epochs[self.best_epoch - 1] if self.best_epoch else None


class HeadBank:
    """H heads, one per trial (all of one shape and batch size), on one device.

    On a CPU the heads are dealt to a few threads, each of which walks through the epoch by itself: no thread ever waits for
    another inside a step. Linear heads are dealt in stacks, deeper ones singly; a deep head alone has a team of threads. How
    they are dealt depends on the number of heads and on torch.get_num_threads() alone, so a machine gives the same bits each
    time. Denormal numbers count as 0 there: a saturated softmax is full of them, and some processors take a hundred cycles
    for each.
    """

    def __init__(self, trials: list[Trial], hidden: int, classes: int, activation: str = "relu", device="cpu", scaling=None):
        self.trials, self.hidden, self.classes, self.activation = trials, hidden, classes, activation
        self.device, self.scaling = torch.device(device), scaling
        threads = torch.get_num_threads()
        workers = min(threads, MOST_WORKERS, len(trials)) if self.device.type == "cpu" else 1
        if trials[0].head == "1C" or self.device.type != "cpu":  # a few linear heads are one good product; fewer need no thread
            self.workers = parts = min(workers, max(1, len(trials) // HEADS_A_WORKER))
        else:
            self.workers, parts = workers, len(trials)
        cuts = [len(trials) * i // parts for i in range(parts + 1)]
        dealt = [trials[a:b] for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
        self.shards = [Shard(part, hidden, classes, activation, self.device, scaling) for part in dealt]
        self.place = [(shard, h) for shard in self.shards for h in range(len(shard.trials))]
        small = self.bytes_for(trials[0].head, hidden, classes) * len(dealt[0]) <= SMALL_BYTES
        deep = trials[0].head != "1C"
        self.inner_threads = 1 if small or deep else threads // self.workers  # in an operation
        alone = deep and self.workers == 1 and self.device.type == "cpu" and not small
        self.team = min(threads, MOST_WORKERS) if alone else 1  # threads that share the parts of a step
        sizes = layer_sizes(trials[0].head, hidden, classes)
        stacked = 1 if deep else len(dealt[0])
        widest = max(a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.multiplications = trials[0].batch_size * stacked * widest  # of a step's largest product

    @staticmethod
    def bytes_for(head: str, hidden: int, classes: int) -> int:
        """Memory of one head in a bank: its parameters, two moments, gradient, and the copy of its best epoch, float32."""
        sizes = layer_sizes(head, hidden, classes)
        parameters = sum((n_in + 1) * n_out for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True))
        return parameters * 4 * 5

    def train_epoch(self, vectors, labels, rows, batch_size: int, class_weight=None, tick=None) -> np.ndarray:
        """One pass over `rows` in that order, the last short batch kept. Gives the mean training loss of each head (H,).

        vectors (N, D) float32 or float16, labels (N,) int64, rows (n,) int64, class_weight (C,) or None: on the
        bank's device. The weighted loss is that of nn.CrossEntropyLoss(weight): a weighted mean over the batch.
        `tick(steps)` is called now and then, by every shard.
        """
        labels = labels.index_select(0, rows)
        share = _shares(labels, batch_size, class_weight)
        return np.concatenate(self._each("train_epoch", vectors, labels, rows, share, batch_size, tick=tick))

    def confusion(self, vectors, labels, rows) -> np.ndarray:
        """Counts of shape (H, C, C) of the heads as they are now: row = true class, column = predicted class."""
        return np.concatenate(self._each("confusion", vectors, labels, rows))

    def _each(self, method: str, *args, tick=None) -> list[np.ndarray]:
        """Call a method of every shard, as many at a time as there are workers."""
        stop, lock, before = threading.Event(), threading.Lock(), torch.get_num_threads()

        def locked_tick(n: int) -> None:
            with lock:
                tick(n)

        calls = [(getattr(shard, method), *args, locked_tick if tick else None, stop) for shard in self.shards]
        if self.device.type != "cpu":
            return [call(*rest) for call, *rest in calls]
        torch.set_num_threads(self.inner_threads)
        pool = ThreadPoolExecutor(self.workers, initializer=at_work, initargs=(self.inner_threads,))
        try:
            with quick_float32(self.device, self.multiplications), Team(self.team) as team, pool:
                try:
                    return [future.result() for future in [pool.submit(*call, team) for call in calls]]
                finally:  # also on Ctrl-C: no thread goes on alone
                    stop.set()
                    pool.shutdown(cancel_futures=True)
        finally:
            torch.set_num_threads(before)

    def head(self, h: int, best: bool = True) -> nn.Sequential:
        """Head h as a module on the CPU: with the weights of its best epoch, or as they are now."""
        shard, place = self.place[h]
        module = build_head(self.trials[h].head, self.hidden, self.classes, self.activation)
        with torch.no_grad():
            for layer, (weight, bias) in zip(linear_layers(module), shard.stack.layers(place, best), strict=True):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
            if self.scaling is not None:  # W ((x - mean) / s) + b = (W / s) x + (b - (W / s) mean)
                mean, inverse = (tensor.cpu().double() for tensor in self.scaling)
                first = linear_layers(module)[0]
                weight = first.weight.double() * inverse
                first.bias.copy_(first.bias.double() - weight @ mean)
                first.weight.copy_(weight)
        return module.eval()

    def fit(self, data, epochs: int, order_seed: int, class_weight=None, on_epoch=None, tick=None) -> None:
        """Train all trials for `epochs` on data.train, judge them on data.val after each; fills trials' epochs and best_epoch.

        A head whose loss or weights are no numbers any more is stopped and marked with the epoch; others go on untouched.
        `on_epoch(epoch, lines)` gets one record a head still alive: index and the keys of run.json's epochs.
        """
        for epoch in range(1, epochs + 1):
            start = time.perf_counter()
            order = epoch_order(data.train.numel(), order_seed, epoch).to(self.device)
            batch_size = self.trials[0].batch_size
            losses = self.train_epoch(
                data.vectors, data.labels, data.train.index_select(0, order), batch_size, class_weight, tick
            )
            seconds = time.perf_counter() - start
            start = time.perf_counter()
            counts = self.confusion(data.vectors, data.labels, data.val)
            fine = np.isfinite(losses) & np.concatenate([s.stack.finite().cpu().numpy() for s in self.shards])
            timing = {"seconds": round(seconds, 4), "eval_seconds": round(time.perf_counter() - start, 4)}
            lines = []
            for h, trial in enumerate(self.trials):
                if trial.diverged_epoch:
                    continue
                shard, place = self.place[h]
                if not fine[h]:
                    trial.diverged_epoch = epoch
                    shard.stack.clear(place)
                    continue
                accuracy = float(np.diag(counts[h]).sum() / counts[h].sum())
                trial.epochs.append(
                    {"epoch": epoch, "train_loss": float(losses[h]), "val_accuracy": accuracy,
                     "val_macro_f1": metrics.macro_f1(counts[h]), **timing}
                )  # fmt: skip
                if trial.best is None or accuracy > trial.best["val_accuracy"]:
                    trial.best_epoch = epoch
                    shard.stack.keep(place)
                lines.append({"index": trial.index, **trial.epochs[-1]})
            if on_epoch is not None:
                on_epoch(epoch, lines)
            if all(trial.diverged_epoch for trial in self.trials):
                return


def _shares(labels, batch_size: int, class_weight):
    """The weight of each document in the mean of its batch, (n,)."""
    if class_weight is None:
        n = labels.numel()
        share = torch.full((n,), 1 / batch_size, device=labels.device)
        share[n - n % batch_size :] = 1 / max(n % batch_size, 1)
        return share
    weight = class_weight[labels]
    return torch.cat([part / part.sum() for part in weight.split(batch_size)])
