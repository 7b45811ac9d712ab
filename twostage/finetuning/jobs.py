"""The run folders of fine-tuning: what is to be trained, which run is continued, and what a finished one leaves."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from twostage.encoder.settings import differences
from twostage.errors import BadInput
from twostage.files import disk_trouble, release_lock, sweep, take_lock
from twostage.recipes import Recipe, check_rates, find_recipe, scaled
from twostage.runs.folder import Run, create_run, read_run, reserve_room, run_folders, write_record

SCRIPT = "finetune.py"
OWN_EPOCHS = 4
# What must be equal for one run to go on with another's checkpoint. Where files lie is no part of it.
SAME = (
    "recipe", "head", "activation", "encoder_lr", "head_lr", "n_epochs", "batch_size", "micro_batch",
    "activation_checkpointing", "warmup_fraction", "weight_decay", "class_weight", "seed", "init_head", "device",
    "label_names", "corpus_digest",
)  # fmt: skip


@dataclass(frozen=True)
class FinetuneJob:
    """One run to be: a recipe, or rates of one's own. `recipe` is None for one's own."""

    name: str
    recipe: str | None
    head: str
    encoder_lr: float | None
    head_lr: float | None
    epochs: int


@dataclass(frozen=True)
class FinetuneSettings:
    """What all runs of one call share; every field stands in run.json under its name.

    micro_batch: documents at a time, or "auto" for what fits. class_weight: "none" or "balanced". init_head: a run of
    train_head.py to start the classifier from. warmup_fraction: part of all steps over which the rates rise from 0.
    """

    runs_dir: Path = Path("runs")
    seed: int = 0
    activation: str = "relu"
    init_head: Path | None = None
    lr_scale: float = 1.0
    batch_size: int = 64
    micro_batch: int | str = "auto"
    weight_decay: float = 0.0
    warmup_fraction: float = 0.0
    class_weight: str = "none"
    activation_checkpointing: bool = False
    checkpoint_minutes: float = 5.0
    resume: bool = False
    tensorboard: bool = False


def jobs_of(
    settings: FinetuneSettings, names: list[str], head: str | None, encoder_lr: float | None, head_lr: float | None,
    epochs: int | None,
) -> list[FinetuneJob]:  # fmt: skip
    """The runs that are asked for: recipes by name, one's own rates, or else B4C3. BadInput where both are asked for."""
    own = encoder_lr is not None or head_lr is not None
    if names and (own or head):
        raise BadInput("--recipe brings its own head and rates: leave out --head, --encoder-lr and --head-lr, or the recipe")
    if head and not own:
        raise BadInput(f"--head {head} needs a rate: give --encoder-lr, --head-lr or both; a part without one is frozen")
    if own and settings.lr_scale != 1:
        raise BadInput("--lr-scale multiplies the rates of recipes: with --encoder-lr and --head-lr give the rates themselves")
    check_rates((encoder_lr, head_lr))
    if own:
        recipes = [Recipe("", head or "1C", encoder_lr, head_lr, OWN_EPOCHS, SCRIPT, (), 0.0)]
    else:
        recipes = [find_recipe(name, SCRIPT) for name in names or ["B4C3"]]
    start = f"-from-{Path(settings.init_head).resolve().name}" if settings.init_head else ""
    jobs = []
    for recipe in recipes:
        scale = scaled(recipe, settings.lr_scale)
        name = f"{recipe.name}{start}{scale.name.removeprefix(recipe.name)}" if recipe.name else _own_name(scale, start)
        jobs.append(
            FinetuneJob(name, None if own else name, scale.head, scale.encoder_lr, scale.head_lr, epochs or recipe.epochs)
        )
    return jobs


def _own_name(recipe: Recipe, start: str) -> str:
    """1C-lr0.0001-bert2e-05: the exact rate of each part that trains."""
    head = "-frozen" if recipe.head_lr is None else f"-lr{recipe.head_lr:.12g}"
    encoder = "" if recipe.encoder_lr is None else f"-bert{recipe.encoder_lr:.12g}"
    return f"{recipe.head}{head}{encoder}{start}"


def open_run(runs_dir: Path, job: FinetuneJob, settings: dict, resume: bool) -> Run:
    """A new run folder; with `resume` the newest incomplete run of equal settings, or else the newest complete one.

    The run is locked until it ends. BadInput: nothing to resume (says which settings differ), still running.
    """
    ours = _records(runs_dir, {job.name}) if resume else []
    same = [one for one in ours if not _differs(one[1], settings)]
    for unfinished in (True, False):
        waiting = [one for one in same if (one[1]["status"] != "complete") == unfinished]
        if waiting:
            return _gone_on_with(*waiting[-1]) if unfinished else Run(*waiting[-1])
    waiting = [one for one in ours if one[1]["status"] != "complete"]
    if waiting:
        path, record = waiting[-1]
        raise BadInput(
            f"cannot resume {path}: {'; '.join(_differs(record, settings))}: give the settings that it was started with, "
            "or leave out --resume to start from the beginning"
        )
    run = create_run(runs_dir, job.name, settings)
    with run.failed_by_errors():
        run.lock = take_lock(run.path / ".lock", run.path, "--runs-dir")
    return run


def something_to_resume(runs_dir: Path, jobs: list[FinetuneJob]) -> None:
    """BadInput where no run of any of these jobs is unfinished: --resume would start from nothing, or do nothing."""
    names = {job.name for job in jobs}
    ours = _records(runs_dir, names)
    done = all(record["status"] == "complete" and not (path / "checkpoints").exists() for path, record in ours)
    if done and len({record["base_name"] for _, record in ours}) in (0, len(names)):
        asked = ", ".join(sorted(names))
        found = f"every run of {asked} is complete" if ours else f"there is no run of {asked}"
        raise BadInput(f"nothing to resume in {runs_dir}: {found}; leave out --resume")


def keep_copy(run: Run) -> None:
    """Keep the run's settings beside its checkpoints as well: whole checkpoints are of use without a run.json too."""
    (run.path / "checkpoints").mkdir(exist_ok=True)
    write_record(run.path / "checkpoints", run.record)


def _gone_on_with(path: Path, record: dict) -> Run:
    lock = take_lock(path / ".lock", path, "--runs-dir")
    try:
        sweep(path)
        with disk_trouble(path, "cannot be written", "free some disk space, then continue with --resume"):
            reserve_room(path)
            run = Run(path, {key: value for key, value in record.items() if key != "error"} | {"status": "running"}, lock)
            run.write()
        return run
    except BaseException:
        release_lock(lock)
        raise


def _records(runs_dir: Path, names: set[str]) -> list[tuple[Path, dict]]:
    """The fine-tuning runs of these names by age; one whose run.json is damaged by the copy beside its checkpoints."""
    found = []
    for path in run_folders(runs_dir):
        for place in (path, path / "checkpoints"):
            with contextlib.suppress(BadInput):
                found.append((path, read_run(place)))
                break
    ours = [one for one in found if one[1].get("script") == SCRIPT and one[1].get("base_name") in names]
    return sorted(ours, key=lambda one: (str(one[1].get("created")), len(one[0].name), one[0].name))


def _differs(record: dict, settings: dict) -> list[str]:
    def flat(one: dict) -> dict:
        head = one.get("init_head")
        plain = {name: one.get(name) for name in SAME} | {"init_head": head["digest"] if head else None}
        return plain | (one.get("encoder") or {})

    return differences(flat(record), flat(settings), ("run", "asked"))
