"""The parts of run.json that say what was found out about the data and the probabilities."""

from dataclasses import dataclass

from twostage.runs.keys import Count, Number, Positive, Share, key


@dataclass
class Suspects:
    folds: Count = key("of the regressions that judged, each document by the one that never saw its text", required=True)
    accuracy: Share = key("of their predictions, over all splits", required=True)
    n: Count = key("documents whose label is not the most probable one: the rows of suspects.csv", required=True)
    below: Share = key("a label less probable than this is counted in `n_below`", required=True)
    n_below: dict[str, Count] = key("how many such labels `train`, `val` and `test` have", required=True)
    first: list[dict] = key(
        "the twenty least believable: `source`, `split`, `digest`, `label`, `suggested`, `probability` of the given label, "
        "`suggested_probability`",
        required=True,
    )
    test_accuracy_if_wrong: Share = key(
        "this run's, were the suggestions for the `n_below` test documents right", required=True
    )
    test_accuracy_if_wrong_ci95: list[Share] = key("its 95 % interval", required=True)
    l2: Number | None = key("the strength of least loss on the documents left out")


@dataclass
class NearDuplicates:
    median_distance: Number = key(
        "1 - centred cosine between a test document, of a vector of its own, and its nearest in train", required=True
    )
    threshold: Number = key("the largest distance of a near-duplicate: 0.13 of the median", required=True)
    texts_compared: bool = key("whether the texts were at hand to confirm what the vectors say", required=True)
    overlap: Share = key("the least share of common 5-grams that confirms", required=True)
    n_same_text: Count = key("test documents whose text is in train too", required=True)
    n_same_vector: Count = key("of another text, but of the same stored vector", required=True)
    n_near: Count = key("within the threshold, and confirmed where texts were compared", required=True)
    n_rejected: Count = key("within the threshold, but of other words", required=True)
    n_other_label: Count = key("of those leaking: under another label in train", required=True)
    n_test_without: Count = key("test documents that do not leak", required=True)
    first: list[dict] = key(
        "the twenty nearest: `kind` (`same text`, `same vector`, `near`), `source`, `digest`, `label`, `train_source`, "
        "`train_digest`, `train_label`, `distance`, `overlap`",
        required=True,
    )
    test_accuracy_without: Share | None = key("this run's, on those that do not leak")
    test_accuracy_without_ci95: list[Share] | None = key("its 95 % interval")


@dataclass
class Calibration:
    temperature: Positive = key("T: the probabilities to believe are softmax(logits / T)", required=True)
    n_val: Count = key("documents that it was fitted to, by negative log likelihood", required=True)
    val_nll: list[Number] = key("[before, after]: mean negative log likelihood on val", required=True)
    ece: list[Share] = key("[before, after]: expected calibration error on test, 15 bins of equal width", required=True)
    brier: list[Positive] = key("[before, after]: Brier score on test, summed over the classes", required=True)
    bins: dict[str, list[dict]] = key(
        "`before` and `after`: 15 bins of the top probability on test, each `low`, `high`, `n`, mean `confidence`, `accuracy`",
        required=True,
    )
    coverage: list[dict] = key(
        "what is left where less probable answers are withheld: `share` of the test documents, `probability` from which they "
        "are kept, `accuracy`",
        required=True,
    )


@dataclass
class View:
    layer: int = key("of the encoder; -1 is the last", required=True)
    pooling: str = key("`cls`, `pooler`, `mean` or `max`", required=True)
    val_accuracy: Share = key("of its best setting, mean over the seeds", required=True)
    deviation: Positive = key("standard deviation over the seeds", required=True)
    head: str = key("of that setting", required=True)
    head_lr: Positive = key("of that setting", required=True)
    cache: dict | None = key("where it lay")
    fingerprint: str | None = key("of the cache")
    model: str | None = key("the encoder's name")
    hidden_size: Count | None = key("D of its vectors")
