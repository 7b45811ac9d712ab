"""What is known of the runs: each run.json checked and brought into one form."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from twostage.errors import BadInput
from twostage.recipes import base_of
from twostage.runs.folder import read_run, run_folders


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
        keys = ("head", "head_lr", "batch_size", "weight_decay", "standardize")
        return len({tuple(str(t.get(k)) for k in keys) for t in self.trials}) > 1

    @property
    def is_ceiling(self) -> bool:
        """Whether this is the optimum of a one-layer head, found without a learning rate: a yardstick for the others."""
        return self.frozen and self.record.get("head_lr") is None

    @property
    def is_baseline(self) -> bool:
        """Whether this is TF-IDF and a linear classifier: what is reached without BERT."""
        return self.record.get("script") == "baseline"

    @property
    def frozen(self) -> bool:
        """Whether this is a head on a frozen BERT, the ceiling among them."""
        return not self.finetuned and not self.is_baseline

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
        recipe = base_of(self.record.get("recipe"))
        return recipe and recipe.name

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
        return self._chosen["val_accuracy"]

    @property
    def rank(self) -> tuple[float, float]:
        """By what runs are compared when one is chosen: val accuracy, macro-F1 on a tie. Test never chooses."""
        return self.val_accuracy, self._chosen.get("val_macro_f1") or 0.0

    @property
    def _chosen(self) -> dict:
        return next(e for e in self.epochs if e["epoch"] == self.record["best_epoch"])

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
        """digest (M, 32), label (M,), predicted (M,), probabilities (M, C) and, in newer runs, source (M,) of the test documents;
        None if absent or damaged."""
        try:
            with open(self.path / "predictions.npz", "rb") as opened, np.load(opened, allow_pickle=False) as file:
                names = ("digest", "label", "predicted", "probabilities", "source")
                found = {name: file[name] for name in names if name in file or name != "source"}
            m, c = len(found["label"]), len(self.record["label_names"])
            shapes = {"digest": (m, 32), "label": (m,), "predicted": (m,), "probabilities": (m, c)}
            if any(found[name].shape != shape for name, shape in shapes.items()) or found["digest"].dtype != np.uint8:
                return None
            if "source" in found and (found["source"].shape != (m,) or found["source"].dtype.kind != "S"):
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
        keep = {"max_length": "{} tokens", "truncation": "{} kept", "pooling": "{} vector", "prefix": "“{}” in front"}
        said = {k: text.format(encoder[k]) for k, text in keep.items() if k in encoder}
        if encoder and encoder.get("layer", -1) != -1:
            said["layer"] = f"layer {encoder['layer']}"
        if "weights" in encoder:
            said["weights"] = f"encoder {str(encoder['weights'])[:6]}"
        if self.record.get("n_train") is not None:
            said["n_train"] = f"{self.record['n_train']:,} to train on"
        return tuple(sorted(said.items()))


@lru_cache(maxsize=4)
def _sorted_rows(digest: bytes, label: bytes) -> bytes:
    """sha256 over the (digest, label) pairs in an order of their own. Most runs have them in the same order: done once."""
    keys = pair_keys(np.frombuffer(digest, np.uint8).reshape(-1, 32), np.frombuffer(label, "<i4"))
    return hashlib.sha256(np.sort(keys).tobytes()).digest()


def pair_keys(digest: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(N,) strings that numpy sorts and compares whole: digest (N, 32), label (N,), and a last byte that is never zero."""
    parts = [digest, np.ascontiguousarray(label, "<i4").view(np.uint8).reshape(-1, 4), np.ones((len(label), 1), np.uint8)]
    return np.ascontiguousarray(np.concatenate(parts, axis=1)).view("S37").ravel()


def load_runs(runs_dir: Path) -> tuple[list[RunView], list[tuple[str, str]]]:
    """All runs in a folder by age, and (name, what is wrong) of those that are damaged."""
    found, damaged = [], []
    for path in sorted(p for p in run_folders(runs_dir) if (p / "run.json").is_file()):
        try:
            found.append(RunView(path, read_run(path)))
        except BadInput as error:
            damaged.append((path.name, str(error).replace(f"{path}/", "").replace(str(path), path.name)))
    return sorted(found, key=lambda r: r.order), damaged
