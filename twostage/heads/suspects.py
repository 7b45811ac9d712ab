"""Which labels look wrong: every document judged by a logistic regression that never saw it, ranked by self-confidence.

Five folds over all splits; the folds are told by the text's digest, so that copies of a text share one. All folds are fitted
at once, in one matrix product. A document is ranked by the probability that it gives to its own label (self-confidence;
Northcutt, Jiang and Chuang 2021). Ranked, never flagged: where to stop reading is the reader's choice.
"""

from pathlib import Path

import numpy as np
import torch

from twostage import SPLITS, metrics
from twostage.files import write_csv
from twostage.heads.data import HeadData
from twostage.heads.logistic import Logistic, minimise
from twostage.progress import Progress, text_table

FOLDS = 5
STRENGTHS = tuple(10.0**-k for k in range(2, 7))  # of l2, times the mean variance of the features; strong to weak
BELOW = 0.05  # the given label is less probable than this: what is counted as wrong where an accuracy needs a count
SHOWN = 20
COLUMNS = ("rank", "source", "split", "label", "suggested", "probability", "suggested_probability", "digest")


def folds_of(digest: np.ndarray) -> np.ndarray:
    """(N, 32) digests -> (N,) int64 fold numbers: equal texts share a fold."""
    return (np.ascontiguousarray(digest[:, :8]).view(">u8")[:, 0] % FOLDS).astype(np.int64)


class FoldedLogistic(Logistic):
    """FOLDS regressions as one problem: rows k * C to (k + 1) * C of the weights learn from all documents but those of fold k."""

    def __init__(self, vectors, labels, fold, classes: int):
        super().__init__(vectors, labels, torch.arange(len(labels), device=labels.device), classes)
        self.classes, self.C, self.fold = classes, FOLDS * classes, fold
        learns = fold[:, None] != torch.arange(FOLDS, device=fold.device)  # (N, F)
        self.share = learns / learns.sum(0).clamp(min=1).float()

    def log_probabilities(self, X, U, b):
        """(F, C, B)"""
        return torch.addmm(b, X, U.t()).t().contiguous().view(FOLDS, self.classes, -1).log_softmax(1)

    def of_chunk(self, part, X, U, b):
        """As Logistic's, summed over the folds. U (F * C, D), b (F * C,)."""
        logp = self.log_probabilities(X, U, b)
        share = self.share[part].t().unsqueeze(1)  # (F, 1, B)
        own = self.labels[part].expand(FOLDS, 1, -1)
        loss = -(logp.gather(1, own) * share).double().sum()
        d = logp.exp_().mul_(share).scatter_add_(1, own, -share).flatten(0, 1)
        return loss, d @ X, d.double().sum(1)

    def out_of_fold(self, x) -> np.ndarray:
        """(N, C) float32 probabilities of every document from the fold that did not learn from it."""
        U, b = x[: self.C * self.D].view(self.C, self.D).float(), x[self.C * self.D :].float()

        def judged(part, X):
            logp = self.log_probabilities(X, U, b)
            return logp[self.fold[part], :, torch.arange(len(X), device=X.device)].exp().cpu()

        return torch.cat(self.each(judged)).numpy()


@torch.no_grad()
def out_of_fold_probabilities(data: HeadData) -> tuple[np.ndarray, float]:
    """(N, C) float32 probabilities of all documents, none judged by a model that saw its text, and the l2 of least loss."""
    fold = torch.from_numpy(folds_of(data.cache.digest)).to(data.device)
    problem = FoldedLogistic(data.vectors, data.labels, fold, data.classes)
    labels, best, x = data.labels.cpu().numpy(), None, None
    with Progress(len(STRENGTHS), "strengths", "suspects") as progress:
        for strength in STRENGTHS:
            l2 = strength * max(problem.variance, 1e-30)
            x, *_ = minimise(problem, l2, x, most=100, tolerance=1e-5)
            found = problem.out_of_fold(x)
            loss = float(-np.log(np.maximum(found[np.arange(len(labels)), labels], 1e-12)).mean())
            progress.advance(1, loss=f"{loss:.4f}")
            if best is not None and loss >= best[0]:
                break  # the weaker ones only fit their folds more closely
            best = loss, found, l2
    return best[1], best[2]


def find_suspects(data: HeadData, run: Path) -> dict:
    """Rank all labels and write <run>/suspects.csv. Gives what run.json keeps under `suspects`.

    `run` is the folder of a run on this cache: the accuracy that wrong labels in test would change is its own.
    """
    probabilities, l2 = out_of_fold_probabilities(data)
    label = data.cache.label.astype(np.int64)
    own = probabilities[np.arange(len(label)), label]
    suggested = probabilities.argmax(1)
    order = np.argsort(own, kind="stable")
    order = order[suggested[order] != label[order]]
    ranked = [_entry(data, int(row), probabilities, suggested) for row in order]
    names = data.label_names
    rows = (one | {"label": names[one["label"]], "suggested": names[one["suggested"]]} for one in ranked)
    write_csv(run / "suspects.csv", COLUMNS, (row | {"rank": rank} for rank, row in enumerate(rows, 1)))
    doubted = (own < BELOW) & (suggested != label)
    split = data.cache.split_of
    return {
        "folds": FOLDS,
        "l2": l2,
        "accuracy": float((suggested == label).mean()),
        "n": len(ranked),
        "below": BELOW,
        "n_below": {name: int((doubted & (split == number)).sum()) for number, name in enumerate(SPLITS)},
        **_if_wrong(data, run, np.where(doubted, suggested, label)),
        "first": ranked[:SHOWN],
    }


def _entry(data: HeadData, row: int, probabilities: np.ndarray, suggested: np.ndarray) -> dict:
    label, other = int(data.cache.label[row]), int(suggested[row])
    return {
        "source": data.cache.sources[row],
        "split": SPLITS[data.cache.split_of[row]],
        "digest": data.cache.digest[row].tobytes().hex(),
        "label": label,
        "suggested": other,
        "probability": round(float(probabilities[row, label]), 6),
        "suggested_probability": round(float(probabilities[row, other]), 6),
    }


def _if_wrong(data: HeadData, run: Path, believed: np.ndarray) -> dict:
    """The accuracy of a run on test if `believed` (N,) were the labels."""
    with np.load(run / "predictions.npz") as saved:
        right = int((saved["predicted"] == believed[data.test.cpu().numpy()]).sum())
    n = data.test.numel()
    return {"test_accuracy_if_wrong": right / n, "test_accuracy_if_wrong_ci95": list(metrics.wilson(right, n))}


def suspects_text(found: dict, record: dict, run: Path) -> str:
    """The first twenty, and what they could mean for the accuracy of the run that holds them."""
    names = record["label_names"]
    rows = [
        (i, one["source"], one["split"], names[one["label"]], names[one["suggested"]], f"{one['probability']:.4f}")
        for i, one in enumerate(found["first"], 1)
    ]
    head = ("", "document", "split", "given label", "suggested", "probability of the given one")
    below, (low, high) = found["n_below"], found["test_accuracy_if_wrong_ci95"]
    return "\n".join([
        f"suspected labels, ranked by a logistic regression that never saw the document ({found['folds']} folds over all splits, "
        f"accuracy {found['accuracy']:.3f}); a ranking, not a verdict:",
        *text_table(head, rows, right=("", "probability of the given one")),
        f"{found['n']:,} documents whose label is not the most probable one are in {run / 'suspects.csv'}",
        f"given label less than {found['below']:.0%} probable: " + ", ".join(f"{name} {n:,}" for name, n in below.items())
        + f"; were those of test wrong and the suggestions right, {record['name']} would have test accuracy "
        f"{found['test_accuracy_if_wrong']:.3f} ({low:.3f}-{high:.3f}) instead of {record['test_accuracy']:.3f}",
    ])  # fmt: skip
