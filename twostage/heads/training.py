"""Train heads from vectors in memory and leave run folders behind."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from twostage import memory
from twostage.errors import BadInput
from twostage.heads.bank import HeadBank, Trial
from twostage.heads.data import HeadData
from twostage.models.head import save_head
from twostage.progress import Progress, say
from twostage.recipes import BATCH_SIZE, Recipe
from twostage.runs.calibration import calibrate
from twostage.runs.folder import Run, create_run
from twostage.runs.scores import save_predictions, score_test

EPOCHS = 20  # of whatever is no recipe


@dataclass(frozen=True)
class HeadJob:
    """One run to be: a recipe, or a head with settings of the user's choice."""

    name: str
    head: str
    lr: float
    epochs: int
    recipe: str | None = None
    batch_size: int = BATCH_SIZE
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Common:
    """Settings that all runs of one call share. `seeds` start the heads; `seed` orders the documents."""

    runs_dir: Path
    seeds: tuple[int, ...] = (0,)
    seed: int = 0
    activation: str = "relu"
    class_weight: str = "none"
    lr_scale: float = 1.0
    tensorboard: bool = False
    standardize: bool = False


def recipe_job(recipe: Recipe, **changed) -> HeadJob:
    """The job of a recipe; `changed` are fields of HeadJob that the user set otherwise, None for those left alone."""
    job = HeadJob(recipe.name, recipe.head, recipe.head_lr, recipe.epochs, recipe.name)
    return replace(job, **{name: value for name, value in changed.items() if value is not None})


def train_run(data: HeadData, job: HeadJob, common: Common) -> dict:
    """Train one job, a head a seed, all seeds in one bank, and score the one that did best on val. Gives run.json's record.

    Every run has a bank of its own, so it has the same bits whatever else is run beside it.
    """
    of = (job.weight_decay, job.batch_size, common.standardize)
    trials = [Trial(i, job.head, job.lr, seed, *of) for i, seed in enumerate(common.seeds)]
    require_memory(data, trials)
    settings = run_settings(data, common) | {"recipe": job.recipe, "lr_scale": common.lr_scale}
    name = job.name + "-standardized" * common.standardize
    with create_run(common.runs_dir, name, settings | trial_settings(trials[0]) | {"n_epochs": job.epochs}) as run:
        memory.reset_peak(data.device)
        bank = train_bank(data, trials, job.epochs, common, run, job.name)
        chosen = max((t for t in trials if t.best), key=lambda t: (t.best["val_accuracy"], -t.index), default=None)
        if chosen is None:
            raise BadInput(f"{job.name}: the loss stopped being a number in epoch 1: {other_rates([job.lr])}")
        finish_run(data, run, common, chosen, bank.head(chosen.index), trials if len(trials) > 1 else None)
    return run.record | {"path": str(run.path)}


def other_rates(lrs) -> str:
    """What to do about rates at which every head diverged."""
    return f"give a lower --lr than {min(lrs):g}"


def train_bank(
    data: HeadData, trials: list[Trial], epochs: int, common: Common, run: Run, label: str, on_epoch=None
) -> HeadBank:
    """One bank over all trials, with progress and metrics.jsonl."""
    weight = class_weights(data, data.train, common)
    bank = bank_of(data, trials, common)
    batches = math.ceil(data.train.numel() / trials[0].batch_size)

    def log(epoch: int, lines: list[dict]) -> None:
        run.log(*lines)
        if on_epoch is not None:
            on_epoch(epoch)

    with Progress(epochs * batches * len(bank.shards), "steps", label) as progress:
        bank.fit(data, epochs, common.seed, weight, log, progress.advance)
    for trial in trials:
        if trial.diverged_epoch:
            say(
                f"{label}: the head with rate {trial.lr:g}, seed {trial.seed} diverged in epoch {trial.diverged_epoch} and was stopped"
            )
    return bank


def bank_of(data: HeadData, trials: list[Trial], common: Common) -> HeadBank:
    """A bank for these trials, which all standardise or none."""
    scaling = data.scaling() if trials[0].standardize else None
    return HeadBank(trials, data.hidden, data.classes, common.activation, data.device, scaling)


def class_weights(data: HeadData, rows, common: Common):
    """(C,) weights of the loss from the labels of these rows, or None."""
    return data.balanced(rows) if common.class_weight == "balanced" else None


def require_memory(data: HeadData, trials: list[Trial]) -> None:
    """BadInput when these heads do not fit into memory together."""
    free = memory.available_bytes(data.device)
    need = HeadBank.bytes_for(trials[0].head, data.hidden, data.classes) * len(trials)
    if free is not None and need > 0.9 * free:
        raise BadInput(
            f"{len(trials):,} {trials[0].head} heads take {need / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free: "
            "give fewer --lr, --seeds or --weight-decay"
        )


def finish_run(data: HeadData, run: Run, common: Common, chosen: Trial, head, trials: list[Trial] | None, **more) -> None:
    """Score the chosen head on test, once; write head/, predictions.npz and run.json (`more`: further keys)."""
    head = head.to(data.device)
    logits = {name: logits_of(head, data, rows) for name, rows in (("val", data.val), ("test", data.test))}
    probabilities = logits["test"].softmax(1).cpu().numpy()
    test = data.test.cpu().numpy()
    labels = data.cache.label[test]
    sources = [data.cache.source(row) for row in test]
    val = logits["val"].cpu().numpy(), data.labels[data.val].cpu().numpy()
    trust = calibrate(*val, logits["test"].cpu().numpy(), labels)
    save_predictions(run.path, data.cache.digest[test], labels, probabilities, sources, trust["temperature"])
    config = {
        "head": chosen.head, "hidden_size": data.hidden, "activation": common.activation, "label_names": data.label_names,
        "encoder": data.cache.encoder, "fingerprint": data.cache.fingerprint,
    }  # fmt: skip
    save_head(run.path / "head", head, config)
    results = trial_settings(chosen) | trial_results(chosen) | score_test(labels, probabilities.argmax(1), data.label_names)
    results["calibration"] = trust
    if trials:
        results["trial"] = chosen.index
        results["trials"] = [trial_record(t) for t in trials if t.epochs]
        results["diverged"] = [trial_record(t) for t in trials if not t.epochs]  # in their first epoch
    if chosen.batch_size:
        results["steps"] = math.ceil(data.train.numel() / chosen.batch_size) * len(chosen.epochs)
    run.finish(**results, peak_memory_bytes=memory.peak_bytes(data.device), **more)


@torch.no_grad()
def logits_of(head, data: HeadData, rows: torch.Tensor) -> torch.Tensor:
    """(n, C) logits of these rows, on the device of the data."""
    return torch.cat([head(data.vectors[part].float()) for part in rows.split(4096)])


def run_settings(data: HeadData, common: Common) -> dict:
    """The keys of run.json that are known before training."""
    return {
        "script": "train_head.py", "encoder_lr": None, "activation": common.activation, "class_weight": common.class_weight,
        "order_seed": common.seed, "device": str(data.device), "threads": torch.get_num_threads(), **data.facts(),
    } | ({"tensorboard": True} if common.tensorboard else {})  # fmt: skip


def trial_settings(trial: Trial) -> dict:
    return {
        "head": trial.head, "head_lr": trial.lr, "seed": trial.seed, "weight_decay": trial.weight_decay,
        "batch_size": trial.batch_size,
    } | ({"standardize": True} if trial.standardize else {})  # fmt: skip


def trial_results(trial: Trial) -> dict:
    return {"epochs": trial.epochs, "best_epoch": trial.best_epoch, "diverged_epoch": trial.diverged_epoch}


def trial_record(trial: Trial) -> dict:
    """One entry of run.json's trials: keyed by index, with the exact rate."""
    view = {} if trial.view is None else {"view": trial.view}
    return {"index": trial.index, **view, **trial_settings(trial), **trial_results(trial)}


def trial_of(entry: dict) -> Trial:
    """The trial that trial_record wrote down."""
    return Trial(**{"lr" if key == "head_lr" else key: value for key, value in entry.items()})


def spread(values) -> tuple[float, float]:
    """Mean and standard deviation over seeds (n - 1 below; 0 for one)."""
    values = np.asarray(values, float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
