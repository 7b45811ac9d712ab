"""Regularised multinomial logistic regression over vectors in memory: mean cross-entropy + l2 / 2 * ||W||^2, the bias free."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import torch

from twostage import memory
from twostage.models.products import quick_float32

CHUNK = 2048  # documents a matrix product
MOST_WORKERS = 4  # threads; more would wait for Python's lock


class Logistic:
    """Objective and gradient over all training documents, in the coordinates of standardised features.

    With U = W * s and the mean moved into the bias, logits are U ((x - mean) / s) + b: the same objective, better
    conditioned by far ([CLS] vectors have a few dimensions much larger than the rest). Products are float32, sums float64.
    The standardised vectors are held in float32 where half of the free memory takes them, else made again each time.
    On a CPU a few threads take the chunks in turn, each on its own; sums are in the order of the chunks, so their number changes no bit.
    """

    def __init__(self, vectors, labels, rows, classes: int, class_weight=None):
        self.vectors, self.rows, self.C, self.D = vectors, rows, classes, vectors.shape[1]
        self.labels = labels[rows]
        weight = torch.ones(len(rows), device=rows.device) if class_weight is None else class_weight[self.labels]
        self.share = (weight.double() / weight.double().sum()).float()
        self.parts = [slice(a, a + CHUNK) for a in range(0, len(rows), CHUNK)]
        total = torch.zeros(2, self.D, dtype=torch.float64, device=rows.device)
        for part in self.parts:
            X = self._raw(part).double()
            total[0] += X.sum(0)
            total[1] += X.square_().sum(0)
        self.mean = total[0] / len(rows)
        variance = (total[1] / len(rows) - self.mean**2).clamp(min=0)
        self.variance = variance.mean().item()
        root = max(self.variance, 1e-30) ** 0.5
        self.s = torch.where(variance.sqrt() > 1e-3 * root, variance.sqrt(), root)  # one that never varies is left alone
        free = memory.available_bytes(rows.device)
        fits = free is None or len(rows) * self.D * 4 < 0.5 * free
        self.held = [self._standardised(part) for part in self.parts] if fits else None
        self.workers = min(torch.get_num_threads(), MOST_WORKERS, len(self.parts)) if rows.device.type == "cpu" else 1
        self.pool = (
            ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) if self.workers > 1 else None
        )

    def _raw(self, part: slice):
        return self.vectors.index_select(0, self.rows[part]).float()

    def _standardised(self, part: slice):
        return self._raw(part).sub_(self.mean.float()).div_(self.s.float())

    def _chunk(self, number: int):
        """(B, D) float32: the standardised vectors of self.rows[self.parts[number]]."""
        return self.held[number] if self.held else self._standardised(self.parts[number])

    def each(self, work) -> list:
        """work(part, X) for every chunk X of self.rows[part], by as many threads as there are workers; results in order."""
        with quick_float32(self.rows.device), one_thread():
            chunks = map if self.pool is None else self.pool.map
            return list(chunks(torch.no_grad()(lambda i: work(self.parts[i], self._chunk(i))), range(len(self.parts))))

    def log_probabilities(self, X, U, b):
        """(C, B) of standardised X (B, D); U (C, D), b (C,) float32. Classes come first: softmax is twenty times as fast so."""
        return torch.addmm(b, X, U.t()).t().contiguous().log_softmax(0)

    def of_chunk(self, part: slice, X, U, b):
        """Cross-entropy and gradients of U and b, of one chunk."""
        logp = self.log_probabilities(X, U, b)
        share = self.share[part].unsqueeze(0)
        own = self.labels[part].unsqueeze(0)
        loss = -(logp.gather(0, own) * share).double().sum()
        d = logp.exp_().mul_(share).scatter_add_(0, own, -share)
        return loss, d @ X, d.double().sum(1)

    def __call__(self, U, b, l2: float):
        """U (C, D), b (C,) float64 -> objective, cross-entropy (floats), gradients of U and b."""
        U32, b32 = U.float(), b.float()
        losses, dU, db = zip(*self.each(lambda part, X: self.of_chunk(part, X, U32, b32)), strict=True)
        loss = torch.stack(losses).sum().item()
        W = U / self.s
        dU = torch.stack(dU).sum(0, dtype=torch.float64) + l2 * W / self.s
        return loss + 0.5 * l2 * W.square().sum().item(), loss, dU, torch.stack(db).sum(0)


def minimise(problem: Logistic, l2: float, start=None, most: int = 300, tolerance: float = 1e-6):
    """L-BFGS (12 pairs, strong Wolfe). Gives x (C * (D + 1),) float64, which is U and b, objective, cross-entropy, iterations."""
    device, cut = problem.rows.device, problem.C * problem.D
    x = torch.zeros(cut + problem.C, dtype=torch.float64, device=device) if start is None else start.clone()
    optimizer = torch.optim.LBFGS(
        [x], max_iter=most, max_eval=4 * most, tolerance_grad=tolerance, tolerance_change=1e-9, history_size=12,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    @torch.no_grad()
    def objective():
        f, ce, dU, db = problem(x[:cut].view(problem.C, problem.D), x[cut:], l2)
        x.grad = torch.cat([dU.flatten(), db])
        return torch.tensor([f, ce], dtype=torch.float64)

    with one_thread():
        optimizer.step(lambda: objective()[0])
        f, ce = objective().tolist()
    return x.detach(), f, ce, optimizer.state[x].get("n_iter", 0)


@contextlib.contextmanager
def one_thread():
    """No second thread inside an operation: these are so small that beside other work each waits for it longer than it takes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
