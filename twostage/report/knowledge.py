"""What runs know of their data and of themselves, read from run.json and checked: suspected labels, near-duplicates,
calibration, accuracy by layer and pooling. A part that is garbled is named and left out; the rest of the run is shown."""

import os
from dataclasses import dataclass, field

from twostage.metrics import wilson
from twostage.report.documents import KnownDocuments, corpus_of, texts_at
from twostage.runs.groups import Group
from twostage.runs.views import RunView

SHOWN = 12  # documents of a kind
FEW = 10  # documents that a bin of the reliability chart holds at least


@dataclass
class Suspect:
    """A document whose given label looks wrong. Probabilities are of the given label and of the suggested one."""

    label: str
    suggested: str
    probability: float
    suggested_probability: float
    split: str
    source: str
    digest: str
    text: str | None = None


@dataclass
class SuspectsShown:
    run: RunView
    folds: int
    accuracy: float
    n: int
    below: float
    n_below: dict[str, int]
    if_wrong: float
    if_wrong_interval: tuple[float, float]
    first: list[Suspect]


@dataclass
class NearPair:
    """A test document and the document of train that is all but the same."""

    kind: str
    label: str
    train_label: str
    source: str
    train_source: str
    digest: str
    train_digest: str
    distance: float
    text: str | None = None
    train_text: str | None = None


@dataclass
class NearShown:
    run: RunView
    compared: bool
    kinds: list[tuple[str, int]]
    n_rejected: int
    n_other_label: int
    without: float | None
    without_interval: tuple[float, float]
    n_without: int
    first: list[NearPair]


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
    """All of it; None where no run of the group holds it. notes: what could not be read, and why."""

    suspects: SuspectsShown | None = None
    near: NearShown | None = None
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
            setattr(found, name, read(run, run.record[key], group.label_names))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            found.notes.append(f"{run.name}: {key} in run.json is garbled ({error}) and left out.")
    for part in (found.suspects, found.near):
        if part is not None:
            _read_texts(part, documents)
    return found


def _suspects(run: RunView, told: dict, names: list[str]) -> SuspectsShown:
    first = [
        Suspect(
            names[one["label"]], names[one["suggested"]], float(one["probability"]), float(one["suggested_probability"]),
            str(one["split"]), str(one["source"]), _digest(one["digest"]),
        )
        for one in told["first"][:SHOWN]
    ]  # fmt: skip
    below = {split: int(told["n_below"][split]) for split in ("train", "val", "test")}
    return SuspectsShown(
        run, int(told["folds"]), float(told["accuracy"]), int(told["n"]), float(told["below"]), below,
        float(told["test_accuracy_if_wrong"]), _interval(told["test_accuracy_if_wrong_ci95"]), first,
    )  # fmt: skip


def _near(run: RunView, told: dict, names: list[str]) -> NearShown:
    first = [
        NearPair(
            str(one["kind"]), names[one["label"]], names[one["train_label"]], str(one["source"]), str(one["train_source"]),
            _digest(one["digest"]), _digest(one["train_digest"]), float(one["distance"]),
        )
        for one in told["first"][:SHOWN]
    ]  # fmt: skip
    compared = bool(told["texts_compared"])
    kinds = {"the same text": "n_same_text", "another text, the same vector": "n_same_vector"}
    kinds["nearly the same text" if compared else "nearly the same vector"] = "n_near"
    without = told["test_accuracy_without"]
    return NearShown(
        run, compared, [(name, int(told[key])) for name, key in kinds.items()], int(told["n_rejected"]),
        int(told["n_other_label"]), None if without is None else float(without),
        (0.0, 1.0) if without is None else _interval(told["test_accuracy_without_ci95"]), int(told["n_test_without"]), first,
    )  # fmt: skip


def _calibration(run: RunView, told: dict, names: list[str]) -> CalibrationShown:
    def bins(which: str) -> list[tuple[float, float, float, float, int]]:
        held = _merged([one for one in told["bins"][which] if one["n"]])
        intervals = [wilson(float(one["accuracy"]) * int(one["n"]), int(one["n"])) for one in held]
        return [
            (float(one["confidence"]), float(one["accuracy"]), *two, int(one["n"]))
            for one, two in zip(held, intervals, strict=True)
        ]

    names_of = {"calibration error (ECE), test": "ece", "Brier score, test": "brier", "log loss, val": "val_nll"}
    return CalibrationShown(
        run, float(told["temperature"]), int(told["n_val"]),
        [(said, float(told[key][0]), float(told[key][1])) for said, key in names_of.items()], bins("before"), bins("after"),
        sorted((float(one["share"]), float(one["probability"]), float(one["accuracy"])) for one in told["coverage"]),
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


def _views(run: RunView, told: list, names: list[str]) -> ViewMap | None:
    keys = [((str(view.get("model") or "BERT"), int(view["layer"])), str(view["pooling"])) for view in told]
    if len(keys) < 2:
        return None
    models = list(dict.fromkeys(row[0] for row, _ in keys))
    rows = sorted({row for row, _ in keys}, key=lambda row: (models.index(row[0]), -row[1]))
    poolings = list(dict.fromkeys(pooling for _, pooling in keys))
    cells = {key: float(view["val_accuracy"]) for key, view in zip(keys, told, strict=True)}
    return ViewMap(run, rows, poolings, cells, keys[int(run.record["view"])], int(run.record["n_trials"]))


def _digest(told: str) -> str:
    if len(bytes.fromhex(told)) != 32:
        raise ValueError("digest")
    return told


def _interval(told) -> tuple[float, float]:
    low, high = told
    return float(low), float(high)


def _read_texts(part: SuspectsShown | NearShown, documents: KnownDocuments | None) -> None:
    """Fill in the texts as far as the corpus still holds them."""
    corpus, reading = corpus_of(part.run) if documents is None else (documents.corpus, documents.reading)
    if corpus is None or not os.path.exists(corpus):
        return
    wanted = [(one, "text", one.source, one.digest) for one in part.first]
    if isinstance(part, NearShown):
        wanted += [(pair, "train_text", pair.train_source, pair.train_digest) for pair in part.first]
    texts = texts_at(corpus, reading, [source for *_, source, _ in wanted], [digest for *_, digest in wanted])
    for (one, name, *_), text in zip(wanted, texts, strict=True):
        setattr(one, name, text)
