"""A cache's vectors and labels in memory, ready to train heads on: one tensor, one verified pass over the file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from twostage import SPLITS, memory
from twostage.cache.reader import FeatureCache, read_facts
from twostage.errors import BadInput
from twostage.metrics import balanced_weights
from twostage.progress import say

NUMBER_BYTES = {"float16": 2, "float32": 4}


@dataclass(eq=False)
class HeadData:
    """N documents on one device. Vectors stay in the dtype they were stored in; a batch becomes float32 when gathered."""

    cache: FeatureCache
    vectors: torch.Tensor  # (N, D) float16 or float32
    labels: torch.Tensor  # (N,) int64
    train: torch.Tensor  # row numbers of each split, int64
    val: torch.Tensor
    test: torch.Tensor
    label_names: list[str]

    @property
    def device(self) -> torch.device:
        return self.vectors.device

    @property
    def hidden(self) -> int:
        return self.vectors.shape[1]

    @property
    def classes(self) -> int:
        return len(self.label_names)

    def balanced(self, rows: torch.Tensor) -> torch.Tensor:
        """(C,) float32 class weights from the labels of these rows."""
        return torch.from_numpy(balanced_weights(self.labels[rows].cpu().numpy(), self.classes)).to(self.device)

    def scaling(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(D,) mean and (D,) 1 / standard deviation of the training documents, float32; 1 for a dimension that never varies."""
        total = torch.zeros(2, self.hidden, dtype=torch.float64, device=self.device)
        for part in self.train.split(8192):
            X = self.vectors[part].double()
            total += torch.stack([X.sum(0), X.square().sum(0)])
        mean = total[0] / len(self.train)
        deviation = (total[1] / len(self.train) - mean**2).clamp(min=0).sqrt()
        typical = deviation.square().mean().sqrt()
        return mean.float(), torch.where(deviation > 1e-3 * typical, 1 / deviation, 1.0).float()

    def facts(self) -> dict:
        """What run.json says about the data."""
        beside = read_facts(self.cache.path)
        cache = {"path": str(Path(self.cache.path).resolve())}
        cache |= {key: beside[key] for key in ("corpus", "corpus_name", "encoding", "model") if key in beside}
        return {
            "cache": cache,
            "fingerprint": self.cache.fingerprint,
            "encoder": self.cache.encoder,
            "store_dtype": self.cache.store_dtype,
            "hidden_size": self.hidden,
            "label_names": self.label_names,
            "n_train": self.train.numel(),
            "n_val": self.val.numel(),
            "n_test": self.test.numel(),
        }


def load(cache: FeatureCache, device: str | torch.device) -> HeadData:
    """Read the vectors of a finished cache. BadInput: not a cache, larger than memory, an empty split, one class in train."""
    device = torch.device(device)
    _check_splits(cache)
    dtype = _dtype_that_fits(cache, device)
    vectors = torch.from_numpy(cache.vectors(out_dtype=dtype)).to(device)
    rows = [torch.from_numpy(np.flatnonzero(cache.split_of == number)).to(device) for number in range(len(SPLITS))]
    labels = torch.from_numpy(cache.label.astype(np.int64)).to(device)
    data = HeadData(cache, vectors, labels, *rows, list(cache.label_names))
    say(
        f"{cache.path}: {len(cache):,} vectors of {data.hidden}, {data.classes} classes; "
        f"train {len(rows[0]):,}, val {len(rows[1]):,}, test {len(rows[2]):,}; on {device.type}"
    )
    _say_missing(cache)
    return data


def _check_splits(cache: FeatureCache) -> None:
    for number, name in enumerate(SPLITS):
        if not (cache.split_of == number).any():
            raise BadInput(
                f"{cache.path}: its {name} split is empty: extract from more documents, or give the corpus a {name} file"
            )
    present = np.unique(cache.label[cache.split_of == 0])
    if len(present) < 2:
        raise BadInput(
            f"{cache.path}: all training documents are labelled {cache.label_names[present[0]]!r}: a classifier needs at least two classes"
        )


def say_batches(data: HeadData, batch_sizes) -> None:
    """Say when a batch takes in all of train."""
    large = [size for size in dict.fromkeys(batch_sizes) if size > len(data.train)]
    if large:
        say(f"train ({len(data.train):,} documents) is smaller than a batch of {large[0]}: each epoch is one step")


def _say_missing(cache: FeatureCache) -> None:
    missing = np.setdiff1d(np.arange(len(cache.label_names)), cache.label[cache.split_of == 0])
    if len(missing):
        names = ", ".join(cache.label_names[i] for i in missing[:5]) + (" …" if len(missing) > 5 else "")
        say(f"no training document is labelled {names}: a head cannot learn {'it' if len(missing) == 1 else 'them'}")


def _dtype_that_fits(cache: FeatureCache, device: torch.device) -> str:
    """The stored dtype; float16 for a float32 cache that fits memory only so, which is said."""
    numbers, stored = len(cache) * cache.hidden_size, cache.store_dtype
    free = memory.available_bytes(torch.device("cpu"))
    if device.type != "cpu":
        free = min(free or 1 << 62, memory.available_bytes(device) or 1 << 62)
    if free is None or numbers * NUMBER_BYTES[stored] < 0.9 * free:
        return stored
    need = (
        f"{cache.path}: its vectors take {numbers * NUMBER_BYTES[stored] / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free"
    )
    if stored == "float32" and numbers * 2 < 0.9 * free:
        say(f"{need}: held as float16, each value rounded to 11 bits")
        return "float16"
    half = "--store-dtype float16, or with " if stored == "float32" else ""
    raise BadInput(f"{need}: extract again with {half}--per-class N, or use a machine with more memory")
