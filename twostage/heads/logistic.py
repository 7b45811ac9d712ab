"""Regularised multinomial logistic regression over vectors in memory: mean cross-entropy + l2 / 2 * ||W||^2, the bias free."""

import torch

CHUNK = 8192  # documents a matrix product


class Logistic:
    """Objective and gradient over all training documents, in the coordinates of standardised features.

    With U = W * s and the mean moved into the bias, logits are U ((x - mean) / s) + b: the same objective, better
    conditioned by far ([CLS] vectors have a few dimensions much larger than the rest). Products are float32, sums float64.
    """

    def __init__(self, vectors, labels, rows, classes: int, class_weight=None):
        self.vectors, self.rows, self.C, self.D = vectors, rows, classes, vectors.shape[1]
        self.labels = labels[rows]
        weight = torch.ones(len(rows), device=rows.device) if class_weight is None else class_weight[self.labels]
        self.share = (weight.double() / weight.double().sum()).float()
        total = torch.zeros(2, self.D, dtype=torch.float64, device=rows.device)
        for _, X in self._chunks():
            total[0] += X.double().sum(0)
            total[1] += X.double().square().sum(0)
        self.mean = total[0] / len(rows)
        variance = (total[1] / len(rows) - self.mean**2).clamp(min=0)
        self.variance = variance.mean().item()
        root = max(self.variance, 1e-30) ** 0.5
        self.s = torch.where(variance.sqrt() > 1e-3 * root, variance.sqrt(), root)  # one that never varies is left alone

    def _chunks(self):
        for a in range(0, len(self.rows), CHUNK):
            part = slice(a, a + CHUNK)
            yield part, self.vectors.index_select(0, self.rows[part]).float()

    def __call__(self, U, b, l2: float):
        """U (C, D), b (C,) float64 -> objective, cross-entropy (floats), gradients of U and b."""
        W = U / self.s
        shift = b - W @ self.mean
        W32, shift32 = W.float(), shift.float()
        loss, dW = 0.0, torch.zeros(self.C, self.D, dtype=torch.float64, device=U.device)
        db = torch.zeros(self.C, dtype=torch.float64, device=U.device)
        for part, X in self._chunks():
            logp = torch.addmm(shift32, X, W32.t()).log_softmax(1)  # (B, C)
            share = self.share[part].unsqueeze(1)
            own = self.labels[part].unsqueeze(1)
            loss -= (logp.gather(1, own) * share).double().sum().item()
            d = logp.exp_().mul_(share).scatter_add_(1, own, -share)
            dW += (d.t() @ X).double()
            db += d.double().sum(0)
        dU = (dW - torch.outer(db, self.mean)) / self.s + l2 * W / self.s
        return loss + 0.5 * l2 * W.square().sum().item(), loss, dU, db


@torch.no_grad()
def minimise(problem: Logistic, l2: float, start=None, most: int = 300, tolerance: float = 1e-6):
    """L-BFGS (two loops, 12 pairs, backtracking). Gives U, b, objective, cross-entropy, iterations."""
    device = problem.rows.device
    x = torch.zeros(problem.C * (problem.D + 1), dtype=torch.float64, device=device) if start is None else start.clone()
    cut = problem.C * problem.D

    def at(x):
        f, ce, dU, db = problem(x[:cut].view(problem.C, problem.D), x[cut:], l2)
        return f, ce, torch.cat([dU.flatten(), db])

    f, ce, g = at(x)
    pairs: list[tuple] = []
    done = 0
    while done < most and g.abs().max() > tolerance:
        d, alphas = g.clone(), []
        for s, y, rho in reversed(pairs):
            alphas.append(rho * s.dot(d))
            d -= alphas[-1] * y
        if pairs:
            s, y, _ = pairs[-1]
            d *= s.dot(y) / y.dot(y)
        for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
            d += (alpha - rho * y.dot(d)) * s
        slope, step = -g.dot(d).item(), 1.0 if pairs else min(1.0, 1.0 / g.abs().sum().item())
        for _ in range(30):
            x_new = x - step * d
            f_new, ce_new, g_new = at(x_new)
            if f_new <= f + 1e-4 * step * slope:
                break
            step *= 0.5
        else:
            break  # float32 products allow no further descent
        s, y = x_new - x, g_new - g
        if s.dot(y) > 1e-12 * y.dot(y):
            pairs = [*pairs[-11:], (s, y, 1 / s.dot(y))]
        small = f - f_new <= 1e-9 * max(1.0, abs(f))
        x, f, ce, g, done = x_new, f_new, ce_new, g_new, done + 1
        if small:
            break
    return x, f, ce, done
