"""The heads of a bank that one thread trains: the loop over minibatches, and the count of right and wrong."""

import numpy as np
import torch

from twostage.heads.deep_stack import DeepStack
from twostage.heads.deep_stacks import DeepStacks
from twostage.heads.linear_stack import LinearStack
from twostage.models.head import build_head

EVAL_ROWS = 2048  # documents judged at a time
GATHER_ROWS = 512  # documents gathered at a time: fewer, longer operations, between which threads wait for Python's lock


class Shard:
    """H linear heads, or one deeper head, on a GPU several; `trials` have head, lr, seed and weight_decay."""

    def __init__(self, trials: list, hidden: int, classes: int, activation: str, device: torch.device, scaling=None):
        self.trials, self.classes, self.device, self.scaling = trials, classes, device, scaling
        heads = [build_head(trial.head, hidden, classes, activation, trial.seed) for trial in trials]
        lr, decay = [trial.lr for trial in trials], [trial.weight_decay for trial in trials]
        if trials[0].head == "1C":
            self.stack = LinearStack(heads, lr, decay, device)
        elif device.type != "cpu":
            self.stack = DeepStacks(heads, lr, decay, device, activation)
        else:
            self.stack = DeepStack(heads[0], trials[0].lr, trials[0].weight_decay, device, activation)

    @torch.no_grad()
    def train_epoch(self, vectors, labels, rows, share, batch_size: int, tick, stop, team=None) -> np.ndarray:
        """labels (n,) and share (n,), the weight of a document in its batch's mean, are in the order of rows (n,)."""
        n = rows.numel()
        full = n - n % batch_size
        span = batch_size * max(1, GATHER_ROWS // batch_size)
        loss = torch.zeros(len(self.trials), device=self.device)
        stored = torch.empty(min(span, n), vectors.shape[1], dtype=vectors.dtype, device=self.device)
        single = torch.empty_like(stored, dtype=torch.float32) if vectors.dtype != torch.float32 else stored
        spans = [(a, min(a + span, full), batch_size) for a in range(0, full, span)]
        for a, b, size in spans + ([(full, n, n - full)] if full < n else []):
            torch.index_select(vectors, 0, rows[a:b], out=stored[: b - a])
            if single is not stored:
                single[: b - a].copy_(stored[: b - a])
            self._standardize(single[: b - a])
            X = single[: b - a].view(-1, size, vectors.shape[1])  # (K, B, D) float32: K minibatches
            minus_target = torch.zeros(X.shape[0], self.classes, size, device=self.device)
            minus_target.scatter_(1, labels[a:b].view(-1, 1, size), -share[a:b].view(-1, 1, size))
            self.stack.train_steps(X, minus_target, loss, size / n, team)
            if tick is not None:
                tick(X.shape[0])
            if stop.is_set():
                break
        return loss.cpu().numpy()

    @torch.no_grad()
    def confusion(self, vectors, labels, rows, tick, stop, team=None) -> np.ndarray:
        H, C = len(self.trials), self.classes
        counts = torch.zeros(H * C * C, dtype=torch.int64, device=self.device)
        offset = torch.arange(H, device=self.device).view(-1, 1) * (C * C)
        for part in rows.split(EVAL_ROWS):
            X = self._standardize(vectors.index_select(0, part).float())
            predicted = self.stack.logits(X, team).argmax(1)  # (H, B)
            cell = offset + labels.index_select(0, part) * C + predicted
            counts += torch.bincount(cell.view(-1), minlength=H * C * C)
            if stop.is_set():
                break
        return counts.view(H, C, C).cpu().numpy()

    def _standardize(self, X):
        """In place, where the bank does."""
        return X if self.scaling is None else X.sub_(self.scaling[0]).mul_(self.scaling[1])
