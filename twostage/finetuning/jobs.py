"""The run folders of fine-tuning: what is to be trained, which run is gone on with, and what a finished one leaves."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twostage.encoder.settings import differences
from twostage.errors import BadInput
from twostage.files import sweep, take_lock
from twostage.recipes import Recipe, find_recipe, scaled
from twostage.runs.folder import Run, create_run, read_run

SCRIPT = "finetune.py"
OWN_EPOCHS = 4
# What must be equal for one run to go on with another's checkpoint. Where files lie is no part of it.
SAME = (
    "recipe", "head", "activation", "encoder_lr", "head_lr", "n_epochs", "batch_size", "micro_batch",
    "activation_checkpointing", "warmup_fraction", "weight_decay", "class_weight", "seed", "init_head", "device",
    "label_names", "corpus_digest",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One run to be: a recipe, or rates of one's own. `recipe` is None for one's own."""

    name: str
    recipe: str | None
    head: str
    encoder_lr: float | None
    head_lr: float | None
    epochs: int


def jobs_of(args) -> list[Job]:
    """What the command line asks for: recipes by name, one's own rates, or else B4C3. BadInput where it asks for both."""
    own = args.encoder_lr is not None or args.head_lr is not None
    if args.recipe and (own or args.head):
        raise BadInput("--recipe brings its own head and rates: leave out --head, --encoder-lr and --head-lr, or the recipe")
    if args.head and not own:
        raise BadInput(f"--head {args.head} needs a rate: give --encoder-lr, --head-lr or both; a part without one is frozen")
    if own and args.lr_scale != 1:
        raise BadInput("--lr-scale multiplies the rates of recipes: with --encoder-lr and --head-lr give the rates themselves")
    if own:
        recipes = [Recipe("", args.head or "1C", args.encoder_lr, args.head_lr, OWN_EPOCHS, SCRIPT, (), 0.0)]
    else:
        recipes = [find_recipe(name, SCRIPT) for name in args.recipe or ["B4C3"]]
    start = f"-from-{Path(args.init_head).resolve().name}" if args.init_head else ""
    jobs = []
    for recipe in recipes:
        scale = scaled(recipe, args.lr_scale)
        name = f"{recipe.name}{start}{scale.name.removeprefix(recipe.name)}" if recipe.name else _own_name(scale, start)
        shown = None if own else name
        jobs.append(Job(name, shown, scale.head, scale.encoder_lr, scale.head_lr, args.epochs or recipe.epochs))
    return jobs


def _own_name(recipe: Recipe, start: str) -> str:
    """1C-lr0.0001-bert2e-05: the exact rate of each part that trains."""
    head = "-frozen" if recipe.head_lr is None else f"-lr{recipe.head_lr:.12g}"
    encoder = "" if recipe.encoder_lr is None else f"-bert{recipe.encoder_lr:.12g}"
    return f"{recipe.head}{head}{encoder}{start}"


def corpus_digest(corpus) -> str:
    """sha256 in hex over digest, label and split of each document in order: two corpora that train alike."""
    total = hashlib.sha256(np.ascontiguousarray(corpus.digest))
    total.update(np.ascontiguousarray(corpus.label, "<i4"))
    total.update(np.ascontiguousarray(corpus.split, np.uint8))
    return total.hexdigest()


def open_run(runs_dir: Path, job: Job, settings: dict, resume: bool) -> Run | None:
    """A new run folder; with `resume` the newest incomplete run of equal settings, or None where that one is complete.

    The run is locked while its process lives. BadInput: nothing to resume (says which settings differ), still running.
    """
    if not resume:
        return _locked(create_run(runs_dir, job.name, settings))
    ours = [one for one in _records(runs_dir) if one[1].get("script") == SCRIPT and one[1].get("base_name") == job.name]
    same = [(path, record) for path, record in ours if not _differs(record, settings)]
    waiting = [one for one in same if one[1]["status"] != "complete"]
    if waiting:
        path, record = waiting[-1]
        return _locked(Run(path, record))
    if same:
        return None
    waiting = [one for one in ours if one[1]["status"] != "complete"]
    if not waiting:
        return _locked(create_run(runs_dir, job.name, settings))
    path, record = waiting[-1]
    raise BadInput(
        f"cannot resume {path}: {'; '.join(_differs(record, settings))}: give the settings that it was started with, "
        "or leave out --resume to start anew"
    )


def something_to_resume(runs_dir: Path, jobs: list[Job]) -> None:
    """BadInput where no run of any of these jobs is incomplete: --resume would start from nothing, or do nothing."""
    names = {job.name for job in jobs}
    ours = [record for _, record in _records(runs_dir) if record.get("base_name") in names]
    if all(record["status"] == "complete" for record in ours) and len({r["base_name"] for r in ours}) in (0, len(names)):
        found = "all are complete" if ours else "there are none"
        raise BadInput(f"nothing to resume in {runs_dir}: of the runs {', '.join(sorted(names))} {found}; leave out --resume")


def _records(runs_dir: Path) -> list[tuple[Path, dict]]:
    found = []
    for path in Path(runs_dir).iterdir() if Path(runs_dir).is_dir() else []:
        try:
            found.append((path, read_run(path)))
        except BadInput:
            continue
    return sorted(found, key=lambda one: (str(one[1].get("created")), (one[0] / "run.json").stat().st_mtime))


def _differs(record: dict, settings: dict) -> list[str]:
    def flat(one: dict) -> dict:
        head = one.get("init_head")
        plain = {name: one.get(name) for name in SAME} | {"init_head": head["digest"] if head else None}
        return plain | (one.get("encoder") or {})

    return differences(flat(record), flat(settings), ("run", "asked"))


def _locked(run: Run) -> Run:
    run.lock = take_lock(run.path / ".lock", run.path)  # until the run or this process ends
    sweep(run.path)
    return run
