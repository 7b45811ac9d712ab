"""Would more labels help? The chosen head on 1, 3, 10, 30 and 100 % of the training documents."""

from dataclasses import replace

import numpy as np
import torch

from twostage.heads.bank import Trial
from twostage.heads.data import HeadData
from twostage.heads.training import Common, bank_of, class_weights, spread
from twostage.progress import Progress

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
SEEDS = (0, 1, 2)
NOTABLE = 0.005  # half a point of accuracy for three times the documents


def learning_curve(data: HeadData, record: dict, common: Common) -> list[dict]:
    """Train the head of a run's record on nested, stratified parts of train, three seeds each; accuracy on val.

    Every part is trained for as many optimizer steps as the whole, its documents coming round more often, so that the
    documents alone make the difference. Gives one entry a share: share, n_train, val_accuracy (one a seed), mean, deviation.
    """
    epochs = len(record["epochs"])
    curve = []
    with Progress(len(SHARES) * len(SEEDS) * epochs, "epochs", "learning curve") as progress:
        for share in SHARES:
            reached, size = [], 0
            for seed in SEEDS:
                rows = part_of_train(data, share, seed)
                size = len(rows)
                how = (record["weight_decay"], record["batch_size"], bool(record.get("standardize")))
                trial = Trial(0, record["head"], record["head_lr"], seed, *how)
                view = replace(data, train=fill(rows, len(data.train)))
                weight, bank = class_weights(data, rows, common), bank_of(view, [trial], common)
                bank.fit(view, epochs, common.seed, weight, lambda *_: progress.advance(1))
                reached.append(trial.best["val_accuracy"] if trial.best else 0.0)
            mean, deviation = spread(reached)
            curve.append({"share": share, "n_train": size, "val_accuracy": reached, "mean": mean, "deviation": deviation})
    return curve


def part_of_train(data: HeadData, share: float, seed: int) -> torch.Tensor:
    """Rows of that share of each class, at least one; the parts of one seed are nested."""
    train, labels = data.train.cpu().numpy(), data.labels[data.train].cpu().numpy()
    order = np.random.default_rng(seed).permutation(len(train))
    place = np.empty(len(train), np.int64)  # of a document among those of its class
    for label in range(data.classes):
        mine = order[labels[order] == label]
        place[mine] = np.arange(len(mine))
    wanted = np.maximum(1, np.round(share * np.bincount(labels, minlength=data.classes)))[labels]
    return torch.from_numpy(train[place < wanted]).to(data.device)


def fill(rows: torch.Tensor, n: int) -> torch.Tensor:
    """The rows over and over until there are n of them."""
    return rows.repeat(-(-n // len(rows)))[:n]


def curve_table(curve: list[dict], record: dict) -> str:
    """The curve in rows, and whether more labels would help."""
    lines = [
        f"learning curve of {record['name']} (lr {record['head_lr']:g}): accuracy on the whole val split, {len(SEEDS)} seeds",
        "  share  documents  val accuracy",
    ]
    lines += [f"{p['share']:6.0%}  {p['n_train']:10,}  {p['mean']:.3f} ±{p['deviation']:.3f}" for p in curve]
    return "\n".join([*lines, more_labels(curve)])


def more_labels(curve: list[dict]) -> str:
    """What the last tripling of the documents brought, against the spread over seeds."""
    before, last = curve[-2], curve[-1]
    gain = last["mean"] - before["mean"]
    noise = 2 * np.hypot(before["deviation"], last["deviation"]) / np.sqrt(len(SEEDS))
    said = f"the last step from {before['n_train']:,} to {last['n_train']:,} documents brought {gain * 100:+.1f} points"
    if gain > max(NOTABLE, noise):
        return f"more labels would help: {said}"
    if gain > NOTABLE:
        return f"more labels may help: {said}, no more than the spread over seeds"
    return f"more labels would hardly help this head: {said}"
