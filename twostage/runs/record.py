"""run.json, declared once: every key that a run may hold, its type, its range, and what it means.

To add a key, add one line to RunRecord (or to the part that it stands in) and run `python -m twostage.runs.schema`: that
rewrites run.schema.json here and in docs/, and the table in docs/runs.md. A test holds them together, and writing a key that
is not declared fails. Keys are only ever added, and a new one may be None: older runs lack it.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from twostage.runs.findings import Calibration, NearDuplicates, Suspects, View
from twostage.runs.keys import LARGEST, Count, Number, Positive, Share, fit, key, need

SCHEMA = 1


@dataclass
class Epoch:
    epoch: Annotated[int, 1, LARGEST] = key("from 1")
    val_accuracy: Share = key("on the whole val split")
    train_loss: Number | None = key("mean over the epoch's documents")
    val_macro_f1: Share | None = key("mean F1 over the classes")
    seconds: Positive | None = key("time that the epoch took")
    eval_seconds: Positive | None = key("of them validation (head runs)")


@dataclass
class TrialRecord:
    index: Count = key("its number in the run")
    head: str = key("as above")
    head_lr: Positive = key("its exact rate")
    epochs: list[Epoch] = key("as above")
    seed: Count | None = key("of its start")
    weight_decay: Positive | None = key("as above")
    batch_size: Count | None = key("as above")
    standardize: bool | None = key("as above")
    view: Count | None = key("the number of its vectors in `views` (sweeps over several caches)")
    best_epoch: Count | None = key("as above")
    diverged_epoch: Count | None = key("as above")


@dataclass
class ClassScore:
    label: str = key("the class")
    precision: Share = key("of the documents predicted so")
    recall: Share = key("of the documents of the class")
    f1: Share = key("of both")
    support: Count = key("test documents")


@dataclass
class CurvePart:
    n_train: Annotated[int, 1, LARGEST] = key("documents trained on")
    val_accuracy: list[Share] = key("one per seed")
    mean: Share = key("of these")
    share: Share | None = key("of the training documents")
    deviation: Positive | None = key("standard deviation over the seeds")


@dataclass
class Strength:
    l2: Number = key("the strength")
    objective: Number | None = key("loss and penalty at the optimum")
    cross_entropy: Number | None = key("the loss alone")
    iterations: Count | None = key("of L-BFGS")
    val_accuracy: Share | None = key("on val")


@dataclass
class AgainstFrozen:
    points_gained: Number = key("test accuracy, in points")
    mcnemar_p: Share | None = key("the chance of so large a difference between equally good runs")
    points_per_minute: Number | None = key("for the time that it took beyond the frozen run")
    frozen: dict | None = key("`run`, `accuracy`, `ci95`, `macro_f1`, `seconds`, `peak_memory_bytes`")
    tuned: dict | None = key("the same of this run")


@dataclass
class RunRecord:
    """The keys of run.json. Code passes the record on as the dict that it is; `checked` says that it fits."""

    schema: Literal[1] = key("1")
    status: Literal["running", "complete", "failed", "interrupted"] = key(
        "`running`, `complete`, `failed` or `interrupted`; there are results only when `complete`"
    )
    error: str | None = key("why a run failed or was interrupted")
    name: str | None = key("the folder's name")
    created: str | None = key("when it began")
    versions: dict | None = key("of Python and the libraries")
    script: str | None = key("`train_head.py`, `finetune.py` or `baseline`")
    # what was asked for
    recipe: str | None = key(
        "`1C3` … `B4`, with the scale in its name (`1C4-x100`); null for a sweep, a ceiling and settings of your own"
    )
    lr_scale: Positive | None = key("what `--lr-scale` multiplied the recipe's rates by")
    head: str | None = key("`1C`, `3C` or `3C-big`")
    activation: str | None = key("the function between layers")
    encoder_lr: Positive | None = key("BERT's exact rate; null is frozen")
    head_lr: Positive | None = key("the head's exact rate; null is frozen, or a ceiling")
    batch_size: Count | None = key("documents per optimizer step")
    weight_decay: Positive | None = key("decoupled")
    standardize: bool | None = key(
        "true where the head was trained on vectors of mean 0 and deviation 1 (its file takes raw ones)"
    )
    class_weight: str | None = key("`none` or `balanced`")
    seed: Count | None = key("of the head's start")
    order_seed: Count | None = key("of the documents' order where it is another (head runs)")
    n_epochs: Count | None = key("epochs asked for")
    # the documents and their vectors
    label_names: list[str] | None = key("the classes; every class number in the run is an index into this list")
    encoder: dict | None = key(
        "how texts became vectors: digests of the weights, config and tokenizer files, `max_length`, `truncation`, "
        "`pooling`, `compute_dtype`, `format`; `prefix`, and `layer` (`-2`) where it is not the last, as text"
    )
    n_train: Count | None = key("documents to train on")
    n_val: Count | None = key("documents to choose by")
    n_test: Count | None = key("documents scored once")
    device: str | None = key("where it ran")
    threads: Count | None = key("of PyTorch")
    # results
    epochs: list[Epoch] | None = key("a list of entries as below")
    best_epoch: Count | None = key(
        "the epoch of highest `val_accuracy`, the earliest on a tie; test was scored once, with its weights"
    )
    diverged_epoch: Count | None = key("the epoch in which the head's loss stopped being a number and it was stopped")
    test_accuracy: Share | None = key("on the whole test split")
    test_accuracy_ci95: list[Share] | None = key("its 95 % interval `[low, high]` (Wilson)")
    test_macro_f1: Share | None = key("mean F1 over the classes")
    per_class: list[ClassScore] | None = key("an entry per class, in the order of `label_names`")
    confusion: list[list[Count]] | None = key("counts; a row is the true class, a column the predicted one")
    steps: Count | None = key("optimizer steps up to the end of training; iterations of a ceiling")
    wall_seconds: Positive | None = key("the whole run; of a head run without the extraction, which all head runs share")
    peak_memory_bytes: Count | None = key("highest use of the GPU's memory, on a CPU that of the whole process")
    calibration: Calibration | None = key("how far the probabilities can be trusted, as below")
    # head runs
    cache: dict | str | None = key("`path` and, as far as known, `corpus` and `model`: where each was (head runs)")
    fingerprint: str | None = key("of the cache (head runs)")
    store_dtype: str | None = key("of its vectors (head runs)")
    hidden_size: Count | None = key("D of its vectors")
    trial: Count | None = key("`index` of the trial chosen on val; the keys above are that one's (several seeds, sweeps)")
    trials: list[TrialRecord] | None = key("all of them, as below (several seeds, sweeps)")
    diverged: list[TrialRecord] | None = key("trials without a single good epoch (several seeds, sweeps)")
    tensorboard: bool | None = key("true where event files for TensorBoard are beside metrics.jsonl")
    grid: dict | None = key("what a sweep was asked to span")
    l2: Number | None = key("the strength chosen on val (ceilings, the baseline)")
    strengths: list[Strength] | None = key("all that were tried, as below (ceilings, the baseline)")
    learning_curve: list[CurvePart] | None = key("the chosen head on parts of train, as below")
    views: list[View] | None = key("one per cache: layer, pooling and encoder, as below (sweeps over several caches)")
    view: Count | None = key("the number in `views` of the vectors chosen on val (sweeps over several caches)")
    n_trials: Count | None = key("heads that were compared on val (sweeps over several caches)")
    suspects: Suspects | None = key("labels that look wrong, as below (`--suspects`)")
    near_duplicates: NearDuplicates | None = key("test documents with a double in train, as below (`--near-duplicates`)")
    # the baseline
    vectorizer: dict | None = key("`analyzer` (`char` or `word`), `ngrams`, `features` (the baseline)")
    # fine-tuned runs
    model: str | dict | None = key("the encoder's folder (fine-tuned runs)")
    model_path: str | None = key("the encoder's folder as older runs have it")
    corpus: dict | str | None = key("`path`, `name`, `format`, `per_class`, `encoding`, `on_undecodable` (fine-tuned runs)")
    corpus_digest: str | None = key("of its texts, labels and splits (fine-tuned runs)")
    base_name: str | None = key("the folder's name without its number (fine-tuned runs)")
    warmup_fraction: Share | None = key("fraction of all steps over which the rates rose (fine-tuned runs)")
    micro_batch: Count | str | None = key("asked for: a number or `auto` (fine-tuned runs)")
    micro_batch_used: Count | None = key("documents at a time (fine-tuned runs)")
    activation_checkpointing: bool | None = key("as on the command line (fine-tuned runs)")
    init_head: dict | None = key("the run that the classifier started from (fine-tuned runs)")
    against_frozen: AgainstFrozen | None = key(
        "the best frozen run on the same test documents beside this one, as below (fine-tuned runs)"
    )


COMPLETE = ("label_names", "epochs", "best_epoch", "test_accuracy", "test_accuracy_ci95", "test_macro_f1", "per_class",
            "confusion", "wall_seconds")  # fmt: skip


def checked(record: Any) -> dict:
    """The record itself. ValueError naming the key whose type, range or size is not as declared; unknown keys are let be."""
    fit(record, RunRecord)
    if record["status"] == "complete":
        missing = [name for name in COMPLETE if record.get(name) is None]
        need(not missing, f"without {', '.join(missing)}")
        names, classes = record["label_names"], len(record["label_names"])
        need(classes > 0, "label_names is empty")
        need([row["label"] for row in record["per_class"]] == names, "per_class does not match label_names")
        counts = record["confusion"]
        need([len(row) for row in counts] == [classes] * classes, "confusion does not match label_names")
        interval = record["test_accuracy_ci95"]
        need(len(interval) == 2 and interval[0] <= interval[1], "test_accuracy_ci95 is not an interval")
        for part in [record, *(record.get("trials") or [])]:
            chosen = [epoch for epoch in part.get("epochs") or [] if epoch["epoch"] == part.get("best_epoch")]
            need(chosen, "best_epoch is not among the epochs")
        curve = record.get("learning_curve")
        need(curve is None or (len(curve) > 1 and all(p["val_accuracy"] for p in curve)), "learning_curve is too short")
    return record


def undeclared(record: dict) -> list[str]:
    """The keys of a record that RunRecord does not declare."""
    known = {field.name for field in dataclasses.fields(RunRecord)}
    return [name for name in record if name not in known]
