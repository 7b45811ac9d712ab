"""One fine-tuning run from start to finish: built, fitted into memory, trained or continued, scored once, written."""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from twostage import memory, ranks
from twostage.corpus.reader import Corpus
from twostage.encoder.encoder import load_bert
from twostage.errors import BadInput
from twostage.files import discard, replacing_folder, sweep
from twostage.finetuning import checkpoints
from twostage.finetuning.fit_memory import fit_micro_batch
from twostage.finetuning.init_head import start_head
from twostage.finetuning.jobs import SCRIPT, FinetuneJob, FinetuneSettings, keep_copy, open_run
from twostage.finetuning.parts import TrainingPlan, prepare
from twostage.finetuning.scoring import scores
from twostage.finetuning.trainer import FineTuner
from twostage.metrics import balanced_weights
from twostage.models.calibrated import cooled
from twostage.models.card import name_of_base, write_card
from twostage.models.classifier import join, save_classifier
from twostage.models.head import build_head
from twostage.models.products import quick_float32
from twostage.progress import say
from twostage.recipes import PUBLISHED_HIDDEN_SIZE, base_of, of_thucnews
from twostage.runs.calibration import calibrate
from twostage.runs.comparison import against_frozen
from twostage.runs.folder import Run, add_to_run, best_epoch, read_run
from twostage.runs.scores import save_predictions, score_test


@dataclass
class FinetuneInputs:
    """What all runs of one call start from. rows: the tokenized documents of train, val and test; encoder: its settings."""

    corpus: Corpus
    folder: Path
    tokenizer: object
    rows: dict
    encoder: dict
    device: str
    dtype: str


def train_job(setting: FinetuneInputs, asked: FinetuneSettings, job: FinetuneJob, about: dict) -> dict:
    """Train one job, or go on with it, and give run.json's record with the run's path."""
    rows, names = setting.rows, setting.corpus.label_names
    device = torch.device(setting.device)
    memory.reset_peak(device)
    bert = load_bert(setting.folder)
    head = build_head(job.head, bert.config.hidden_size, len(names), asked.activation, asked.seed)
    activation, start = asked.activation, None
    if asked.init_head:
        head, activation, start = start_head(asked.init_head, job.head, setting.encoder, names)
        say(f"{job.name}: the classifier starts from {asked.init_head} (test accuracy {start['test_accuracy']:.4f})")
    if activation == "none" and job.head != "1C":
        say(f"{job.name}: three linear layers with no activation between them are one linear layer")
    settings = {
        "script": SCRIPT, "base_name": job.name, "recipe": job.recipe, "lr_scale": asked.lr_scale, "head": job.head,
        "activation": activation, "encoder_lr": job.encoder_lr, "head_lr": job.head_lr, "n_epochs": job.epochs,
        "batch_size": asked.batch_size, "micro_batch": asked.micro_batch, "weight_decay": asked.weight_decay,
        "warmup_fraction": asked.warmup_fraction, "class_weight": asked.class_weight, "seed": asked.seed,
        "activation_checkpointing": asked.activation_checkpointing, "init_head": start, "device": device.type,
        "threads": torch.get_num_threads(), "model": str(setting.folder.resolve()), "encoder": setting.encoder,
        "hidden_size": bert.config.hidden_size,
        "label_names": names, "n_train": len(rows["train"]), "n_val": len(rows["val"]), "n_test": len(rows["test"]), **about,
    } | ({"tensorboard": True} if asked.tensorboard else {})  # fmt: skip
    run = open_together(asked, job, settings)
    if run.record["status"] == "complete":
        say(f"{run.path} is complete: nothing to train")
        if not run.follows:
            tidy(run, asked.runs_dir)  # what a kill just after it was complete left undone
        return run.record | {"path": str(run.path)}
    with quick_float32(device), run:
        weight = None
        if asked.class_weight == "balanced":
            weight = torch.from_numpy(balanced_weights(rows["train"].label, len(names)))
        plan = TrainingPlan(
            encoder_lr=job.encoder_lr, head_lr=job.head_lr, epochs=job.epochs, batch_size=asked.batch_size,
            micro_batch=asked.batch_size, seed=asked.seed, device=device, dtype=getattr(torch, setting.dtype),
            warmup_fraction=asked.warmup_fraction, weight_decay=asked.weight_decay, class_weight=weight,
            activation_checkpointing=asked.activation_checkpointing, checkpoint_minutes=asked.checkpoint_minutes,
        )  # fmt: skip
        model = join(bert, head, job.head, activation, names)
        plan = replace(plan, micro_batch=chosen_micro_batch(model, plan, asked.micro_batch, rows["train"], run))
        memory.reset_peak(device)  # what was tried for `auto` is no part of the training
        tuner = FineTuner(model, plan, rows["train"], rows["val"], setting.tokenizer.pad_token_id or 0, run)
        say(f"{run.path}: {checkpoints.check_disk(run.path, checkpoints.bytes_needed(model))}")
        newest = None if ranks.rank() else checkpoints.newest_whole(run.path / "checkpoints")
        if newest := ranks.from_first(newest and newest.name):
            saved = run.path / "checkpoints" / newest
            say(f"{run.path}: continuing from step {checkpoints.step_of(saved):,}")
            tuner.resume_from(saved)
        try:
            tuner.fit()
            finish(setting, run, tuner, job, activation, asked.runs_dir)
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{run.path}: cannot write ({error}): free some disk space, then continue with --resume") from None
        except RuntimeError as error:
            if not memory.is_out_of_memory(error):
                reason = ranks.trouble(error)
                if reason:
                    raise BadInput(reason) from None
                raise
            raise BadInput(
                f"{run.path}: out of memory with {plan.micro_batch} documents at a time: give --micro-batch "
                f"{max(1, plan.micro_batch // 2)} or --activation-checkpointing, and --resume"
            ) from None
    ranks.wait()  # rank 0 has written it
    return (read_run(run.path) if ranks.rank() else run.record) | {"path": str(run.path)}


def open_together(asked: FinetuneSettings, job: FinetuneJob, settings: dict) -> Run:
    """The run that rank 0 opens, on every rank; the others write nothing in it."""
    run = None if ranks.rank() else open_run(asked.runs_dir, job, settings, asked.resume)
    with run.failed_by_errors() if run else contextlib.nullcontext():
        name, record = ranks.from_first((run.path.name, run.record) if run else None)
    return run or Run(asked.runs_dir / name, record, follows=True)


def chosen_micro_batch(model, plan: TrainingPlan, asked, rows, run: Run) -> int:
    """What was asked for; for auto what fits, or what fitted when the run began."""
    size = run.record.get("micro_batch_used")
    if size is None and asked == "auto":
        prepare(model, plan)
        size = ranks.least(fit_micro_batch(model, plan, int(rows.length.max()), float(rows.length.mean())))
        if size < plan.batch_size:
            why = "fit into memory" if plan.device.type == "cuda" else "suit this CPU and its memory"
            say(f"{run.path}: {size} documents at a time {why}; a step is still {plan.batch_size}")
    elif size is None:
        size = min(asked, plan.batch_size)
    run.record["micro_batch_used"] = size
    run.write()
    if not run.follows:
        keep_copy(run)
    return size


def finish(setting: FinetuneInputs, run: Run, tuner: FineTuner, job: FinetuneJob, activation: str, runs_dir: Path) -> None:
    """Score test once with the best epoch's weights, and write model/, predictions.npz and run.json."""
    names, test, val, so_far = setting.corpus.label_names, setting.rows["test"], setting.rows["val"], tuner.so_far
    logits = scores(tuner.model, test, tuner.plan, tuner.pad, "scoring test")
    val_logits = scores(tuner.model, val, tuner.plan, tuner.pad, "calibrating on val")
    if run.follows:
        return
    probabilities = torch.from_numpy(logits).double().softmax(1).float().numpy()
    split = np.flatnonzero(setting.corpus.split == 2)
    sources = [setting.corpus.sources[row] for row in split]
    trust = calibrate(val_logits, val.label, logits, test.label)
    save_predictions(run.path, setting.corpus.digest[split], test.label, probabilities, sources, trust["temperature"])
    about = {
        "head": job.head, "activation": activation, "pooling": "cls", "max_length": setting.encoder["max_length"],
        "truncation": setting.encoder["truncation"], "encoder": setting.encoder,
        "temperature": trust["temperature"],
    }  # fmt: skip
    head = cooled(tuner.model.head, trust["temperature"])
    with replacing_folder(run.path / "model") as partial:
        save_classifier(tuner.model.bert, head, names, setting.tokenizer, partial, about)
    peak = max(memory.peak_bytes(tuner.plan.device), run.record.get("peak_memory_bytes") or 0)
    run.finish(
        **score_test(test.label, probabilities.argmax(1), names), epochs=so_far.epochs,
        best_epoch=best_epoch(so_far.epochs), calibration=trust, steps=tuner.sampler.steps * job.epochs, peak_memory_bytes=peak,
        wall_seconds=round(so_far.seconds, 3),
    )  # fmt: skip
    tidy(run, runs_dir)
    say(memory_line(run.record))
    if run.record["init_head"]:
        start = run.record["init_head"]
        say(
            f"{run.path}: test accuracy {run.record['test_accuracy']:.4f}; the head that it started from, on frozen "
            f"vectors: {start['test_accuracy']:.4f} ({start['run']})"
        )


def tidy(run: Run, runs_dir: Path) -> None:
    """What is left to do once a run is complete and on the disk: it is compared, and its checkpoints go."""
    if "against_frozen" not in run.record:
        add_to_run(run.path, against_frozen=against_frozen(runs_dir, run.path))
        run.record = read_run(run.path)
    sweep(run.path / "model")  # of a card that a kill has left half written
    write_card(run.path / "model", run.record, name_of_base(run.record["model"]))
    discard(run.path / ".lock")
    discard(run.path / "checkpoints")  # last: they tell a resume that something is left to do


def memory_line(record: dict) -> str:
    """Peak memory; for the 14 classes of THUCNews and a BERT of the published size also what was published, at batch 64."""
    where = "GPU tensors" if record["device"] == "cuda" else "whole process"
    base = base_of(record["base_name"])
    theirs = base and of_thucnews(record["label_names"]) and record.get("hidden_size") == PUBLISHED_HIDDEN_SIZE
    published = f"; published: {base.published_memory_gb:g} GB of GPU memory" if theirs else ""
    return f"{record['name']}: peak memory {record['peak_memory_bytes'] / 1e9:.2f} GB ({where}){published}"
