"""The ceiling of a one-layer head: the regularised optimum of a convex problem, so that nobody blames the features for a
learning rate.

Objective: mean cross-entropy + l2 / 2 * ||W||^2, the bias free; scikit-learn's LogisticRegression with C = 1 / (n * l2).
"""

import time
from dataclasses import dataclass

import torch
from torch import nn

from twostage import memory, metrics
from twostage.heads.bank import Trial
from twostage.heads.data import HeadData
from twostage.heads.logistic import CHUNK, Logistic, minimise
from twostage.heads.training import Common, finish_run, run_settings
from twostage.models.head import build_head
from twostage.progress import Progress
from twostage.runs.folder import create_run

STRENGTHS = tuple(10.0**-k for k in range(-1, 8))  # of l2, times the mean variance of the features; strong to weak


@dataclass(eq=False)
class Optimum:
    """The optimum for one strength."""

    l2: float
    weight: torch.Tensor  # (C, D) float32
    bias: torch.Tensor  # (C,)
    objective: float  # mean cross-entropy + penalty on train
    cross_entropy: float
    iterations: int
    val_accuracy: float = 0.0

    def head(self) -> nn.Sequential:
        module = build_head("1C", self.weight.shape[1], self.weight.shape[0])
        with torch.no_grad():
            module[0].weight.copy_(self.weight)
            module[0].bias.copy_(self.bias)
        return module.eval()


@torch.no_grad()
def fit_ceiling(data: HeadData, class_weight: str = "none", strengths=STRENGTHS) -> tuple[Optimum, list[Optimum], float]:
    """The optimum of the strength that is best on val (the stronger on a tie), all optima, and the seconds it took."""
    start = time.perf_counter()
    weight = data.balanced(data.train) if class_weight == "balanced" else None
    problem = Logistic(data.vectors, data.labels, data.train, data.classes, weight)
    found: list[tuple[Optimum, torch.Tensor]] = []

    def fit(l2: float, x) -> None:
        x, f, ce, iterations = minimise(problem, l2, x)
        cut = problem.C * problem.D
        W = x[:cut].view(problem.C, problem.D) / problem.s
        optimum = Optimum(l2, W.float().cpu(), (x[cut:] - W @ problem.mean).float().cpu(), f, ce, iterations)
        counts = confusion(optimum.head(), data, data.val)
        optimum.val_accuracy = float(counts.diagonal().sum() / counts.sum())
        found.append((optimum, x))
        found.sort(key=lambda pair: -pair[0].l2)
        progress.advance(1, val=f"{max(o.val_accuracy for o, _ in found):.3f}")

    with Progress(len(strengths) + 2, "strengths", "ceiling") as progress:
        for strength in strengths:
            fit(strength * max(problem.variance, 1e-30), found[-1][1] if found else None)
            reached = [optimum.val_accuracy for optimum, _ in found]
            if len(reached) > 2 and max(reached[-2:]) < max(reached):
                break  # val has fallen twice: the weaker ones, which take longest, only fit train more closely
        best, x = max(found, key=lambda pair: pair[0].val_accuracy)  # max keeps the first, which is the strongest
        for factor in (10**0.5, 10**-0.5):  # the decades, then half a decade about the best
            fit(best.l2 * factor, x)
    found = [optimum for optimum, _ in found]
    best = max(found, key=lambda o: o.val_accuracy)  # max keeps the first, which is the strongest
    return best, found, time.perf_counter() - start


@torch.no_grad()
def confusion(head: nn.Sequential, data: HeadData, rows):
    """Counts (C, C) of a head on these rows."""
    head = head.to(data.device)
    predicted = [head(data.vectors[part].float()).argmax(1) for part in rows.split(CHUNK)]
    return metrics.confusion(data.labels[rows].cpu().numpy(), torch.cat(predicted).cpu().numpy(), data.classes)


def run_ceiling(data: HeadData, common: Common) -> dict:
    """Fit the ceiling and leave it as the run `ceiling`, a head like any other. Gives run.json's record and its path.

    It has one "epoch", the optimum; `steps` counts L-BFGS iterations; `strengths` lists every l2 tried.
    """
    with create_run(common.runs_dir, "ceiling", run_settings(data, common) | {"recipe": None, "lr_scale": 1.0}) as run:
        memory.reset_peak(data.device)
        best, tried, seconds = fit_ceiling(data, common.class_weight)
        counts = confusion(best.head(), data, data.val)
        figures = {"val_accuracy": best.val_accuracy, "val_macro_f1": metrics.macro_f1(counts), "seconds": round(seconds, 4)}
        trial = Trial(0, "1C", None, common.seed, 0.0, None)
        trial.epochs, trial.best_epoch = [{"epoch": 1, "train_loss": best.cross_entropy, **figures}], 1
        run.log({"index": 0, **trial.epochs[0]})
        names = ("l2", "objective", "cross_entropy", "iterations", "val_accuracy")
        strengths = [{name: getattr(optimum, name) for name in names} for optimum in tried]
        steps = sum(optimum.iterations for optimum in tried)
        finish_run(data, run, common, trial, best.head(), None, l2=best.l2, strengths=strengths, steps=steps)
    return run.record | {"path": str(run.path)}


def ceiling_text(ceiling: dict, records: list[dict]) -> str:
    """The ceiling, and how far each run stays behind it."""
    low, high = ceiling["test_accuracy_ci95"]
    lines = [
        f"ceiling of a one-layer head on these vectors: val {ceiling['epochs'][0]['val_accuracy']:.3f}, "
        f"test {ceiling['test_accuracy']:.3f} (95 % interval {low:.3f}-{high:.3f}), l2 {ceiling['l2']:.2g}"
    ]
    edge = ceiling["l2"] in (ceiling["strengths"][0]["l2"], ceiling["strengths"][-1]["l2"])
    lines += ["its l2 is at the edge of those tried: the true ceiling may be a little higher"] if edge else []
    return "\n".join(lines + [verdict(record, ceiling) for record in records])


def verdict(record: dict, ceiling: dict) -> str:
    """One line: how far a run stopped below the ceiling on test, and what its losses say about why."""
    gap = ceiling["test_accuracy"] - record["test_accuracy"]
    points = f"{abs(gap) * 100:.1f} points"
    low, high = ceiling["test_accuracy_ci95"]
    if low <= record["test_accuracy"] <= high:
        side = "below" if gap > 0 else "above"
        return f"{record['name']} reaches what one layer can do here: {points} {side}, within the interval"
    if gap < 0:
        return f"{record['name']} is {points} above what one layer can do"
    epochs = record["epochs"]
    behind = epochs[-1]["train_loss"] > 1.2 * ceiling["epochs"][-1]["train_loss"]
    falling = len(epochs) < 2 or epochs[-1]["train_loss"] < epochs[-2]["train_loss"]
    what = "this head" if record["head"] == "1C" else "a one-layer head"
    why = (
        "the learning rate is too small; the features are not to blame"
        if behind and falling
        else "the learning rate is too large"
        if behind
        else "it fits train better than it generalises"
    )
    return f"{record['name']} stopped {points} below what {what} can do: {why}"
