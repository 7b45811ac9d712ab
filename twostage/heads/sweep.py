"""A grid of heads trained at once; one trial chosen on val.

The rule: the settings with the highest val accuracy at the best epoch, averaged over their seeds (then macro-F1, then the
lower rate); of their seeds the best on val. Averaging first keeps a lucky start from choosing the rate.
"""

import math
import time
from dataclasses import dataclass, replace
from itertools import product

import torch

from twostage import memory
from twostage.errors import BadInput
from twostage.heads.bank import HeadBank, Trial
from twostage.heads.data import HeadData
from twostage.heads.training import EPOCHS, Common, bank_of, finish_run, other_rates, run_settings, spread, train_bank
from twostage.progress import duration, say
from twostage.recipes import BATCH_SIZE
from twostage.runs.folder import create_run

LEADERBOARD_SECONDS = 5.0
DECADES, PER_DECADE = (-5, -1), 3
RATES = tuple(float(f"{10 ** (DECADES[0] + i / PER_DECADE):.3g}") for i in range((DECADES[1] - DECADES[0]) * PER_DECADE + 1))


@dataclass(frozen=True)
class Grid:
    """What a sweep spans: every combination, each from every seed."""

    heads: tuple[str, ...] = ("1C",)
    lrs: tuple[float, ...] = RATES
    weight_decays: tuple[float, ...] = (0.0,)
    batch_sizes: tuple[int, ...] = (BATCH_SIZE,)
    standardize: tuple[bool, ...] = (False,)
    epochs: int = EPOCHS

    @property
    def axes(self) -> dict:
        """The lists that multiply, as run.json has them."""
        axes = {"head": self.heads, "lr": self.lrs, "weight_decay": self.weight_decays, "batch_size": self.batch_sizes}
        return axes | ({"standardize": self.standardize} if any(self.standardize) else {})

    def trials(self, seeds: tuple[int, ...]) -> list[Trial]:
        every = product(self.heads, self.batch_sizes, self.standardize, self.weight_decays, sorted(self.lrs), seeds)
        return [Trial(i, head, lr, seed, wd, size, std) for i, (head, size, std, wd, lr, seed) in enumerate(every)]


@dataclass
class Setting:
    """The trials of equal settings that differ in their seed alone."""

    trials: list[Trial]

    def __post_init__(self):
        reached = [t.best or {"val_accuracy": 0.0, "val_macro_f1": 0.0} for t in self.trials]  # diverged at once: nothing
        self.accuracy, self.deviation = spread([r["val_accuracy"] for r in reached])
        self.macro_f1, _ = spread([r["val_macro_f1"] for r in reached])
        first = self.trials[0]
        self.lr, self.key = first.lr, (first.head, first.batch_size, first.weight_decay, first.standardize)

    @property
    def rank(self) -> tuple:
        return self.accuracy, self.macro_f1, -self.lr

    @property
    def best_trial(self) -> Trial | None:
        return max((t for t in self.trials if t.best), key=lambda t: (t.best["val_accuracy"], -t.index), default=None)

    @property
    def epochs(self) -> str:
        """The best epochs of the seeds: 7, or 7-12."""
        found = sorted(t.best_epoch for t in self.trials if t.best_epoch)
        return "diverged" if not found else str(found[0]) if found[0] == found[-1] else f"{found[0]}-{found[-1]}"


def settings_of(trials: list[Trial]) -> list[Setting]:
    groups: dict[tuple, list[Trial]] = {}
    for t in trials:
        groups.setdefault((t.view, t.head, t.batch_size, t.weight_decay, t.standardize, t.lr), []).append(t)
    return [Setting(group) for group in groups.values()]


def run_sweep(data: HeadData, grid: Grid, common: Common) -> dict:
    """Train the grid, score the chosen trial on test, write the run folder `sweep`. Gives run.json's record and its path.

    BadInput when not even one setting's seeds fit into memory, or every head diverges at once.
    """
    trials = grid.trials(common.seeds)
    settings = run_settings(data, common) | {"recipe": None, "lr_scale": 1.0, "n_epochs": grid.epochs}
    settings |= {"grid": grid.axes | {"seed": common.seeds}}
    banks = banks_of(data, trials, grid)
    with create_run(common.runs_dir, "sweep", settings) as run:
        memory.reset_peak(data.device)
        best = train_grid(data, banks, grid, common, run)
        if best is None:
            raise BadInput(f"every head of the sweep diverged in its first epoch: {other_rates(grid.lrs)}")
        finish_run(data, run, common, best[0].best_trial, best[1], trials)
    return run.record | {"path": str(run.path)}


def train_grid(data: HeadData, banks: list[list[Trial]], grid: Grid, common: Common, run) -> tuple[Setting, object] | None:
    """Train all trials, bank by bank. The best setting and the head of its best trial; None where every head diverged."""
    say(f"sweep: {sum(map(len, banks))} heads in {len(banks)} bank{'s' * (len(banks) > 1)}, {grid.epochs} epochs")
    best: tuple[Setting, object] | None = None
    for heads in banks:
        if heads[0].head != "1C":
            say_estimate(data, heads, grid.epochs, common)
        bank = train_bank(data, heads, grid.epochs, common, run, f"sweep {heads[0].head}", Leaderboard(heads))
        for setting in settings_of(heads):
            if setting.best_trial and (best is None or setting.rank > best[0].rank):
                best = setting, bank.head(heads.index(setting.best_trial))
        del bank
    return best


def banks_of(data: HeadData, trials: list[Trial], grid: Grid) -> list[list[Trial]]:
    """The trials of a grid, in banks of one shape and batch size that fit into memory."""
    kinds = [[t for t in trials if t.standardize == standardize] for standardize in grid.standardize]
    shapes = product(grid.heads, grid.batch_sizes, kinds)
    return [bank for head, size, kind in shapes for bank in split_banks(data, kind, head, size)]


def split_banks(data: HeadData, trials: list[Trial], head: str, batch_size: int) -> list[list[Trial]]:
    """The trials of one shape and batch size, in banks that fit into half of the free memory; seeds stay together."""
    mine = settings_of([t for t in trials if t.head == head and t.batch_size == batch_size])
    seeds, each = len(mine[0].trials), HeadBank.bytes_for(head, data.hidden, data.classes)
    free = memory.available_bytes(data.device)
    fit = len(mine) if free is None else int(0.5 * free / (each * seeds))
    if fit < 1:
        raise BadInput(
            f"{seeds:,} {head} heads (one for each seed) take {seeds * each / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory "
            "are free: give fewer --seeds"
        )
    if fit < len(mine):
        say(f"{len(mine) * seeds:,} {head} heads do not fit into memory at once: trained {fit * seeds} at a time")
    return [[t for s in mine[a : a + fit] for t in s.trials] for a in range(0, len(mine), fit)]


def say_estimate(data: HeadData, trials: list[Trial], epochs: int, common: Common) -> None:
    """Time a few steps of one head and say how long the bank will take."""
    first = trials[0]
    few = [replace(trial) for trial in trials[: min(len(trials), torch.get_num_threads())]]
    bank = bank_of(data, few, common)
    rows = data.train[: first.batch_size * 4]
    bank.train_epoch(data.vectors, data.labels, rows, first.batch_size)
    start = time.perf_counter()
    bank.train_epoch(data.vectors, data.labels, rows, first.batch_size)
    step = (time.perf_counter() - start) / math.ceil(len(rows) / first.batch_size) / len(few)
    steps = math.ceil(data.train.numel() / first.batch_size) * epochs
    say(
        f"{len(trials)} {first.head} heads, {epochs} epochs, {steps:,} steps of {step * len(trials):.2g} s: "
        f"about {duration(step * len(trials) * steps)} (fewer --lr, --seeds or --epochs take less)"
    )


class Leaderboard:
    """Says the three best settings so far, every few seconds while a bank trains."""

    def __init__(self, trials: list[Trial]):
        self.trials, self.said = trials, time.monotonic()

    def __call__(self, epoch: int) -> None:
        if time.monotonic() - self.said < LEADERBOARD_SECONDS:
            return
        self.said = time.monotonic()
        top = sorted(settings_of(self.trials), key=lambda s: s.rank, reverse=True)[:3]
        places = "   ".join(f"{i}. lr {s.lr:g}{_decay(s)} {s.accuracy:.3f}" for i, s in enumerate(top, 1))
        say(f"{self.trials[0].head} after epoch {epoch}, val accuracy: {places}")


def _decay(setting: Setting) -> str:
    return (f" decay {setting.key[2]:g}" if setting.key[2] else "") + " standardized" * setting.key[3]
