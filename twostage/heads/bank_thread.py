"""The heads of a bank that one thread trains: the loop over minibatches, and the count of right and wrong."""

import numpy as np
import torch

from twostage.heads.deep_stack import DeepStack
from twostage.heads.linear_stack import LinearStack
from twostage.models.head import build_head

EVAL_ROWS = 2048  # documents judged at a time


class Shard:
    """H linear heads, or one deeper head; `trials` have head, lr, seed and weight_decay."""

    def __init__(self, trials: list, hidden: int, classes: int, activation: str, device: torch.device):
        self.trials, self.classes, self.device = trials, classes, device
        heads = [build_head(trial.head, hidden, classes, activation, trial.seed) for trial in trials]
        if trials[0].head == "1C":
            lr, decay = [trial.lr for trial in trials], [trial.weight_decay for trial in trials]
            self.stack = LinearStack(heads, lr, decay, device)
        else:
            self.stack = DeepStack(heads[0], trials[0].lr, trials[0].weight_decay, device, activation)

    @torch.no_grad()
    def train_epoch(self, vectors, labels, rows, share, batch_size: int, tick, stop) -> np.ndarray:
        """labels (n,) and share (n,), the weight of a document in its batch's mean, are in the order of rows (n,)."""
        n, C = rows.numel(), self.classes
        labels, minus = labels.view(1, -1), -share.view(1, -1)
        loss = torch.zeros(len(self.trials), device=self.device)
        stored = torch.empty(min(batch_size, n), vectors.shape[1], dtype=vectors.dtype, device=self.device)
        single = torch.empty_like(stored, dtype=torch.float32) if vectors.dtype != torch.float32 else stored
        for number, a in enumerate(range(0, n, batch_size)):
            b = min(a + batch_size, n)
            X = single[: b - a]  # (B, D) float32
            torch.index_select(vectors, 0, rows[a:b], out=stored[: b - a])
            if single is not stored:
                X.copy_(stored[: b - a])
            minus_target = torch.zeros(C, b - a, device=self.device).scatter_(0, labels[:, a:b], minus[:, a:b])
            self.stack.train_step(X, minus_target, share[a:b], loss, (b - a) / n)
            if tick is not None and number % 16 == 15:
                tick(16)
            if stop.is_set():
                break
        return loss.cpu().numpy()

    @torch.no_grad()
    def confusion(self, vectors, labels, rows, tick, stop) -> np.ndarray:
        H, C = len(self.trials), self.classes
        counts = torch.zeros(H * C * C, dtype=torch.int64, device=self.device)
        offset = torch.arange(H, device=self.device).view(-1, 1) * (C * C)
        for part in rows.split(EVAL_ROWS):
            predicted = self.stack.logits(vectors.index_select(0, part).float()).argmax(1)  # (H, B)
            cell = offset + labels.index_select(0, part) * C + predicted
            counts += torch.bincount(cell.view(-1), minlength=H * C * C)
            if stop.is_set():
                break
        return counts.view(H, C, C).cpu().numpy()
