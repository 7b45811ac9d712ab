"""The parts of run.json that say what was found out about the data and the probabilities."""

from dataclasses import dataclass

from twostage.runs.keys import Count, Number, Positive, Share, key


@dataclass
class Suspect:
    source: str = key("where the document is in the corpus")
    split: str = key("`train`, `val` or `test`")
    digest: str = key("of its text, hexadecimal")
    label: Count = key("as given")
    suggested: Count = key("the most probable one")
    probability: Share = key("of the given label")
    suggested_probability: Share = key("of the suggested one")


@dataclass
class Suspects:
    folds: Count = key("number of regressions; each document is judged by the one that never saw its text")
    accuracy: Share = key("of their predictions, over all splits")
    n: Count = key("documents whose label is not the most probable one: the rows of suspects.csv")
    below: Share = key("a label less probable than this is counted in `n_below`")
    n_below: dict[str, Count] = key("how many such labels `train`, `val` and `test` have")
    first: list[Suspect] = key(
        "the twenty least believable: `source`, `split`, `digest`, `label`, `suggested`, `probability` of the given label, "
        "`suggested_probability`"
    )
    test_accuracy_if_wrong: Share = key("this run's, were the suggestions for the `n_below` test documents right")
    test_accuracy_if_wrong_ci95: list[Share] = key("its 95 % interval")
    l2: Number | None = key("the regularisation with the least loss on the documents left out")


@dataclass
class NearPair:
    kind: str = key("`same text`, `same vector` or `near`")
    source: str = key("where the test document is in the corpus")
    digest: str = key("of its text, hexadecimal")
    label: Count = key("its label")
    train_source: str = key("where the document in train is")
    train_digest: str = key("of its text, hexadecimal")
    train_label: Count = key("its label")
    distance: Number = key("1 - centred cosine of the two")
    overlap: Share | None = key("share of common 5-grams")


@dataclass
class NearDuplicates:
    median_distance: Number = key(
        "1 - centred cosine between a test document whose vector train lacks and its nearest in train"
    )
    threshold: Number = key("the largest distance of a near-duplicate: 0.5 of the median where texts were compared, else 0.13")
    texts_compared: bool = key("whether the texts were available to confirm what the vectors say")
    overlap: Share = key("the smallest share of common 5-grams that confirms")
    n_same_text: Count = key("test documents whose text is in train too")
    n_same_vector: Count = key("with another text, but the same stored vector")
    n_near: Count = key("within the threshold, and confirmed where texts were compared")
    n_rejected: Count = key("within the threshold, but with other words")
    n_other_label: Count = key("of those leaking: under another label in train")
    n_test_without: Count = key("test documents that do not leak")
    first: list[NearPair] = key(
        "the twenty nearest: `kind` (`same text`, `same vector`, `near`), `source`, `digest`, `label`, `train_source`, "
        "`train_digest`, `train_label`, `distance`, `overlap`"
    )
    test_accuracy_without: Share | None = key("this run's, on those that do not leak")
    test_accuracy_without_ci95: list[Share] | None = key("its 95 % interval")


@dataclass
class Bin:
    low: Share = key("of its probabilities")
    high: Share = key("of its probabilities")
    n: Count = key("test documents in it")
    confidence: Share | None = key("mean top probability")
    accuracy: Share | None = key("of these documents")


@dataclass
class Kept:
    share: Share = key("of the test documents")
    probability: Share = key("from which they are kept")
    accuracy: Share = key("of these documents")


@dataclass
class Calibration:
    temperature: Positive = key("T: the probabilities to believe are softmax(logits / T)")
    n_val: Count = key("documents that it was fitted to, by negative log likelihood")
    val_nll: list[Number] = key("[before, after]: mean negative log likelihood on val")
    ece: list[Share] = key("[before, after]: expected calibration error on test, 15 bins of equal width")
    brier: list[Positive] = key("[before, after]: Brier score on test, summed over the classes")
    bins: dict[str, list[Bin]] = key(
        "`before` and `after`: 15 bins of the top probability on test, each `low`, `high`, `n`, mean `confidence`, `accuracy`"
    )
    coverage: list[Kept] = key(
        "what is left where less probable answers are withheld: `share` of the test documents, `probability` from which they "
        "are kept, `accuracy`"
    )


@dataclass
class View:
    layer: int = key("of the encoder; -1 is the last")
    pooling: str = key("`cls`, `pooler`, `mean` or `max`")
    val_accuracy: Share = key("of its best setting, mean over the seeds")
    deviation: Positive = key("standard deviation over the seeds")
    head: str = key("of that setting")
    head_lr: Positive = key("of that setting")
    cache: dict | None = key("where it was")
    fingerprint: str | None = key("of the cache")
    model: str | None = key("the encoder's name")
    hidden_size: Count | None = key("D of its vectors")
