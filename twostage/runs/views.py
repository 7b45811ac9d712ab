"""What the report knows of the runs: each run.json checked and brought into one form, runs grouped by their test set."""

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from twostage.errors import BadInput
from twostage.recipes import RECIPES, THUCNEWS_CLASSES
from twostage.runs.folder import read_run
from twostage.runs.schema import check

HEAD_WORDS = {"1C": "1-layer head", "3C": "3-layer head", "3C-big": "3-layer head (big)"}


@dataclass(eq=False)
class RunView:
    """One run. `record` is its run.json, of which all that the report reads was checked."""

    path: Path
    record: dict

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def complete(self) -> bool:
        return self.record["status"] == "complete"

    @property
    def trials(self) -> list[dict]:
        return self.record.get("trials") or []

    @property
    def swept(self) -> bool:
        """Whether its trials differ in more than their seed."""
        keys = ("head", "head_lr", "batch_size", "weight_decay")
        return len({tuple(str(t.get(k)) for k in keys) for t in self.trials}) > 1

    @property
    def is_ceiling(self) -> bool:
        """Whether this is the optimum of a one-layer head, found without a learning rate: a yardstick for the others."""
        return not self.finetuned and self.record.get("head_lr") is None

    @property
    def curve(self) -> list[tuple[int, float]]:
        """(epoch, val accuracy): of the chosen trial in a sweep, else the mean over the seeds."""
        if self.swept or not self.trials:
            return [(e["epoch"], e["val_accuracy"]) for e in self.epochs]
        at: dict[int, list[float]] = {}
        for trial in self.trials:
            for e in trial["epochs"]:
                at.setdefault(e["epoch"], []).append(e["val_accuracy"])
        return [(epoch, sum(values) / len(values)) for epoch, values in sorted(at.items())]

    @property
    def finetuned(self) -> bool:
        return self.record.get("encoder_lr") is not None

    @property
    def base(self) -> str | None:
        """The recipe that this run follows, whatever the scale of its rates."""
        name = str(self.record.get("recipe") or "").partition("-x")[0]
        return name if name in RECIPES else None

    @property
    def epochs(self) -> list[dict]:
        return self.record["epochs"]

    @property
    def accuracy(self) -> float:
        return self.record["test_accuracy"]

    @property
    def interval(self) -> tuple[float, float]:
        low, high = self.record["test_accuracy_ci95"]
        return low, high

    @property
    def val_accuracy(self) -> float:
        """Of the chosen epoch: what runs are compared by when one is chosen."""
        return next(e["val_accuracy"] for e in self.epochs if e["epoch"] == self.record["best_epoch"])

    @property
    def seconds(self) -> float:
        return self.record["wall_seconds"]

    @property
    def order(self) -> tuple:
        """Sorts runs by age; a number behind an equal name tells the younger of two from the same second."""
        tail = self.name.rpartition("-")[2]
        return str(self.record.get("created") or ""), int(tail) if tail.isdecimal() and len(tail) < 9 else 1

    @cached_property
    def predictions(self) -> dict[str, np.ndarray] | None:
        """digest (M, 32), label (M,), predicted (M,), probabilities (M, C) of the test documents; None if absent or damaged."""
        try:
            with open(self.path / "predictions.npz", "rb") as opened, np.load(opened, allow_pickle=False) as file:
                found = {name: file[name] for name in ("digest", "label", "predicted", "probabilities")}
            m, c = len(found["label"]), len(self.record["label_names"])
            shapes = {"digest": (m, 32), "label": (m,), "predicted": (m,), "probabilities": (m, c)}
            if any(found[name].shape != shape for name, shape in shapes.items()) or found["digest"].dtype != np.uint8:
                return None
            both = np.concatenate([found["label"], found["predicted"]]).astype(np.int64)
            return found if m and both.min() >= 0 and both.max() < c else None
        except Exception:  # a zip can be broken in many ways; whatever the way, the run is shown without its predictions
            return None

    @cached_property
    def test_set(self) -> str:
        """Equal for runs that were scored on the same documents with the same labels."""
        names = json.dumps(self.record.get("label_names"), ensure_ascii=False)
        found = hashlib.sha256(names.encode("utf-8", "surrogatepass"))
        if self.complete and self.predictions is not None:
            label = np.ascontiguousarray(self.predictions["label"], "<i4")
            found.update(_sorted_rows(self.predictions["digest"].tobytes(), label.tobytes()))
        else:
            found.update(str((self.record.get("n_test"), self.record.get("fingerprint"))).encode())
        return found.hexdigest()

    @property
    def setting(self) -> tuple:
        """(name, value) of what may differ between runs on one test set and must then be said beside the name."""
        encoder = self.record.get("encoder") if isinstance(self.record.get("encoder"), dict) else {}
        keep = {"max_length": "{} tokens", "truncation": "{} kept", "pooling": "{} vector"}
        said = {k: text.format(encoder[k]) for k, text in keep.items() if k in encoder}
        if "weights" in encoder:
            said["weights"] = f"encoder {str(encoder['weights'])[:6]}"
        if self.record.get("n_train") is not None:
            said["n_train"] = f"{self.record['n_train']:,} to train"
        return tuple(sorted(said.items()))


@lru_cache(maxsize=4)
def _sorted_rows(digest: bytes, label: bytes) -> bytes:
    """sha256 over the (digest, label) pairs in an order of their own. Most runs have them in the same order: done once."""
    pairs = [np.frombuffer(digest, np.uint8).reshape(-1, 32), np.frombuffer(label, np.uint8).reshape(-1, 4)]
    rows = np.ascontiguousarray(np.concatenate([*pairs, np.ones((len(pairs[0]), 1), np.uint8)], 1))
    return hashlib.sha256(np.sort(rows.view("S37").ravel()).tobytes()).digest()


@dataclass
class Group:
    """Runs that were scored on the same test documents. `complete` by age; `head` and `tuned` are their two kinds."""

    runs: list[RunView] = field(default_factory=list)

    @cached_property
    def complete(self) -> list[RunView]:
        return [r for r in self.runs if r.complete]

    @cached_property
    def label_names(self) -> list[str]:
        return self.complete[0].record["label_names"]

    @cached_property
    def frozen(self) -> RunView | None:
        heads = [r for r in self.complete if not r.finetuned]
        return best([r for r in heads if r.record.get("head_lr")] or heads)  # a trained head before the ceiling

    @cached_property
    def tuned(self) -> RunView | None:
        return best([r for r in self.complete if r.finetuned])

    @cached_property
    def best(self) -> RunView:
        return best([r for r in self.complete if not r.is_ceiling] or self.complete)

    @cached_property
    def ceiling(self) -> RunView | None:
        """The newest ceiling of these vectors."""
        return next((r for r in reversed(self.complete) if r.is_ceiling), None)

    @cached_property
    def columns(self) -> list[RunView]:
        """The newest run of each name and setting among the seven recipes, in the order of the published table."""
        newest = {(r.base, r.record["recipe"], r.setting): r for r in self.complete if r.base}
        order = list(RECIPES)
        return sorted(newest.values(), key=lambda r: (order.index(r.base), r.record.get("lr_scale") or 1, r.order))

    def newest_with(self, key: str) -> RunView | None:
        """The newest run here whose record holds something under this key."""
        return next((r for r in reversed(self.complete) if r.record.get(key)), None)

    def differs(self, run: RunView) -> str:
        """What sets this run's encoder or training set off from those of the other runs here, in words; often nothing."""
        every = [set(r.setting) for r in self.complete]
        common = set.intersection(*every) if every else set()
        names = {k for k, _ in set.union(*every) - common if all(k in dict(s) for s in every)} if every else set()
        return ", ".join(v for k, v in run.setting if k in names)


def has_published(group: Group) -> bool:
    """Published figures belong beside runs on the 14 THUCNews classes only."""
    return set(group.label_names) == set(THUCNEWS_CLASSES) and len(group.label_names) == len(THUCNEWS_CLASSES)


def best(runs: list[RunView]) -> RunView | None:
    """The run of highest accuracy on val, the quickest on a tie."""
    return max(runs, key=lambda r: (r.val_accuracy, -r.seconds), default=None)


def load_runs(runs_dir: Path) -> tuple[list[RunView], list[tuple[str, str]]]:
    """All runs in a folder by age, and (name, what is wrong) of those that are damaged."""
    found, damaged = [], []
    for path in sorted(p for p in Path(runs_dir).iterdir() if (p / "run.json").is_file()) if runs_dir.is_dir() else []:
        try:
            record = read_run(path)
            check(record)
        except BadInput as error:
            damaged.append((path.name, str(error).replace(f"{path}/", "").replace(str(path), path.name)))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            damaged.append((path.name, f"run.json lacks or garbles {error}"))
        else:
            found.append(RunView(path, record))
    return sorted(found, key=lambda r: r.order), damaged


def group_runs(runs: list[RunView]) -> list[Group]:
    """Groups of one test set each, the one with the newest run first; a run without results joins its fingerprint's group."""
    groups: dict[str, Group] = {}
    for run in runs:
        if run.complete:
            groups.setdefault(run.test_set, Group()).runs.append(run)
    return sorted(groups.values(), key=lambda g: g.runs[-1].order, reverse=True)
