"""What runs know of their data and of themselves, read from run.json and checked: suspected labels, near-duplicates,
calibration, accuracy by layer and pooling. A part that is garbled is named and left out; the rest of the run is shown."""

from dataclasses import dataclass, field

from twostage import SPLITS
from twostage.metrics import wilson
from twostage.report.documents import KnownDocuments, texts_again
from twostage.runs.groups import Group
from twostage.runs.views import RunView

SHOWN = 12  # documents of a kind
FEW = 10  # documents that a bin of the reliability chart holds at least


@dataclass
class CalibrationShown:
    """before, after: (confidence, accuracy, low, high, documents) of each bin that holds any; the interval is Wilson's.
    figures: (name, before, after). coverage: (share of the test documents kept, from which probability, accuracy)."""

    run: RunView
    temperature: float
    n_val: int
    figures: list[tuple[str, float, float]]
    before: list[tuple[float, float, float, float, int]]
    after: list[tuple[float, float, float, float, int]]
    coverage: list[tuple[float, float, float]]


@dataclass
class ViewMap:
    """Val accuracy by (encoder, layer) and pooling. cells: {(row, pooling): accuracy}; chosen is the key of the best."""

    run: RunView
    rows: list[tuple[str, int]]
    poolings: list[str]
    cells: dict[tuple[tuple[str, int], str], float]
    chosen: tuple[tuple[str, int], str]
    n_trials: int

    def shade(self, value: float) -> float:
        """0 to 1, the lowest to the highest of the map."""
        low, high = min(self.cells.values()), max(self.cells.values())
        return (value - low) / (high - low) if high > low else 1.0


@dataclass
class Knowledge:
    """All of it; None where no run of the group holds it. notes: what could not be read, and why.

    suspects, near: the part of run.json (runs/findings.py), its run, and of each document under `first` also the text.
    """

    suspects: dict | None = None
    near: dict | None = None
    calibration: CalibrationShown | None = None
    views: ViewMap | None = None
    notes: list[str] = field(default_factory=list)


def knowledge_of(group: Group, documents: KnownDocuments | None) -> Knowledge:
    found = Knowledge()
    parts = {"suspects": _suspects, "near_duplicates": _near, "calibration": _calibration, "views": _views}
    for (key, read), name in zip(parts.items(), ("suspects", "near", "calibration", "views"), strict=True):
        run = group.best if key == "calibration" and group.best.record.get(key) else group.newest_with(key)
        if run is None:
            continue
        try:
            setattr(found, name, read(run, run.record[key]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            found.notes.append(f"{run.name}: {key} in run.json is garbled ({error}) and left out.")
    if found.suspects:
        _read_texts(found.suspects, documents, ("",))
    if found.near:
        _read_texts(found.near, documents, ("", "train_"))
    return found


def _suspects(run: RunView, told: dict) -> dict:
    return told | {
        "run": run, "n_below": {split: told["n_below"][split] for split in SPLITS},
        "if_wrong_interval": _interval(told["test_accuracy_if_wrong_ci95"]), "first": _entries(run, told, ""),
    }  # fmt: skip


def _near(run: RunView, told: dict) -> dict:
    kinds = {"the same text": "n_same_text", "another text, the same vector": "n_same_vector"}
    kinds["nearly the same text" if told["texts_compared"] else "nearly the same vector"] = "n_near"
    without = told.get("test_accuracy_without")
    return told | {
        "run": run, "kinds": [(name, told[key]) for name, key in kinds.items()], "without": without,
        "without_interval": None if without is None else _interval(told["test_accuracy_without_ci95"]),
        "first": _entries(run, told, "", "train_"),
    }  # fmt: skip


def _entries(run: RunView, told: dict, *sides: str) -> list[dict]:
    """The first documents, their classes by name. The sides of a pair tell their keys apart."""
    names, entries = run.record["label_names"], []
    for one in told["first"][:SHOWN]:
        labels = [key for key in ("label", "suggested", "train_label") if key in one]
        entries.append(one | {key: names[one[key]] for key in labels})
        if any(len(bytes.fromhex(one[f"{side}digest"])) != 32 for side in sides):
            raise ValueError("digest")
    return entries


def _calibration(run: RunView, told: dict) -> CalibrationShown:
    def bins(which: str) -> list[tuple[float, float, float, float, int]]:
        return [
            (one["confidence"], one["accuracy"], *wilson(one["accuracy"] * one["n"], one["n"]), one["n"])
            for one in _merged([one for one in told["bins"][which] if one["n"]])
        ]

    names_of = {"calibration error (ECE), test": "ece", "Brier score, test": "brier", "log loss, val": "val_nll"}
    return CalibrationShown(
        run, told["temperature"], told["n_val"],
        [(said, told[key][0], told[key][1]) for said, key in names_of.items()], bins("before"), bins("after"),
        sorted((one["share"], one["probability"], one["accuracy"]) for one in told["coverage"]),
    )  # fmt: skip


def _merged(bins: list[dict]) -> list[dict]:
    """Neighbouring bins as one until each holds FEW documents: one or two say nothing of an accuracy."""
    merged: list[dict] = []
    for one in bins:
        if merged and (merged[-1]["n"] < FEW or one is bins[-1] and one["n"] < FEW):
            last, n = merged[-1], merged[-1]["n"] + one["n"]
            mean = {key: (last[key] * last["n"] + one[key] * one["n"]) / n for key in ("confidence", "accuracy")}
            merged[-1] = {"n": n, **mean}
        else:
            merged.append(one)
    return merged


def _views(run: RunView, told: list) -> ViewMap | None:
    keys = [((view.get("model") or "BERT", view["layer"]), view["pooling"]) for view in told]
    if len(keys) < 2:
        return None
    models = list(dict.fromkeys(row[0] for row, _ in keys))
    rows = sorted({row for row, _ in keys}, key=lambda row: (models.index(row[0]), -row[1]))
    poolings = list(dict.fromkeys(pooling for _, pooling in keys))
    cells = {key: view["val_accuracy"] for key, view in zip(keys, told, strict=True)}
    return ViewMap(run, rows, poolings, cells, keys[run.record["view"]], run.record["n_trials"])


def _interval(told: list[float]) -> tuple[float, float]:
    low, high = told
    return low, high


def _read_texts(part: dict, documents: KnownDocuments | None, sides: tuple[str, ...]) -> None:
    """Fill in the texts as far as the corpus still holds them, None elsewhere."""
    wanted = [(one, side) for one in part["first"] for side in sides]
    texts, _ = texts_again(part["run"], documents, [(one[f"{side}source"], one[f"{side}digest"]) for one, side in wanted])
    for (one, side), text in zip(wanted, texts or [None] * len(wanted), strict=True):
        one[f"{side}text"] = text
