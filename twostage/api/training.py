"""Stage 2 as calls: heads trained from a cache, one by one or a whole grid at once. Needs no encoder."""

from dataclasses import replace
from itertools import product
from pathlib import Path

from twostage.api.arguments import held
from twostage.api.run import FinishedRun
from twostage.cache.reader import FeatureCache, find_cache
from twostage.cache.reader import open_cache as open_file
from twostage.encoder.encoder import resolve_device
from twostage.errors import BadInput
from twostage.heads import sweep as sweeps
from twostage.heads import views
from twostage.heads.data import HeadData, load, say_batches
from twostage.heads.training import EPOCHS, Common, HeadJob, recipe_job, train_run
from twostage.progress import say, spoken
from twostage.recipes import check_rates, find_recipe, recipes_of, scaled
from twostage.report.build import write_report
from twostage.report.tables import accuracy_table
from twostage.runs.events import require_tensorboard


@held
def open_cache(path: str | Path | None = None, *, cache_dir: str | Path = "cache") -> FeatureCache:
    """Open a cache file of `extract`, its facts checked against their digests; without a path the only one in `cache_dir`.

    BadInput: absent, damaged, unfinished or hostile; no cache in the folder, or several.
    """
    return open_file(path or find_cache(Path(cache_dir)))


@held
def train(
    cache: FeatureCache | str | Path,
    *,
    recipe: str | list[str] | None = None,
    head: str | list[str] | None = None,
    lr: float | list[float] | None = None,
    seeds: int | None = None,
    epochs: int | None = None,
    batch_size: int | list[int] | None = None,
    weight_decay: float | list[float] | None = None,
    class_weight: str = "none",
    activation: str = "relu",
    lr_scale: float = 1.0,
    device: str = "auto",
    seed: int = 0,
    standardize: bool = False,
    tensorboard: bool = False,
    runs_dir: str | Path = "runs",
    progress: bool = False,
    on_run=None,
) -> FinishedRun | list[FinishedRun]:
    """Train heads on a cache, each with a run folder of its own: a recipe by name, several, or heads and rates of one's own.

    Returns the run where one recipe, or one rate, is named; a list of runs for lists and where none is named.

    With neither `recipe` nor `lr` the four published recipes 1C3, 1C4, 3C4, 3C4-big are run. Lists of head, lr, batch_size
    and weight_decay multiply. seeds: start each head from seeds 0..N-1 and keep the best on val (default: the one `seed`).
    standardize: train on vectors of mean 0 and deviation 1 in train, folded into the saved head.
    tensorboard: event files beside metrics.jsonl. on_run: called with each run as soon as it is complete.

    BadInput: settings that contradict each other, a cache that cannot be used, a loss that is not finite in epoch 1.
    """
    recipes = chosen_recipes(many(recipe), many(lr), many(head), lr_scale)
    if tensorboard:
        require_tensorboard()
    with spoken(progress):
        data = loaded(cache, device)
        say_batches(data, many(batch_size) or [64])
        jobs = jobs_of(recipes, many(head), many(lr), epochs, many(batch_size), many(weight_decay))
        say_linear(activation, [job.head for job in jobs])
        changed = {"--epochs": epochs, "--batch-size": batch_size, "--weight-decay": weight_decay}
        changed = [name for name, value in changed.items() if value]
        if recipes and changed:
            say(f"the recipes run with your {', '.join(changed)}, not with their own")
        common = Common(
            Path(runs_dir), seeds_of(seeds, seed), seed, activation, class_weight, lr_scale, tensorboard, standardize
        )
        runs = []
        for job in jobs:
            runs.append(FinishedRun.of(train_run(data, job, common)))
            write_report(common.runs_dir)
            if on_run is not None:
                on_run(runs[-1])
        listed = any(isinstance(value, list) for value in (recipe, head, lr, batch_size, weight_decay))
        return runs if listed or len(runs) > 1 else runs[0]


@held
def sweep(
    cache: FeatureCache | str | Path | list,
    *,
    head: str | list[str] | None = None,
    lr: float | list[float] | None = None,
    seeds: int = 3,
    epochs: int | None = None,
    batch_size: int | list[int] | None = None,
    weight_decay: float | list[float] | None = None,
    class_weight: str = "none",
    activation: str = "relu",
    device: str = "auto",
    seed: int = 0,
    standardize: bool = False,
    tensorboard: bool = False,
    runs_dir: str | Path = "runs",
    progress: bool = False,
) -> FinishedRun:
    """Train a grid of heads at once (13 rates from 1e-5 to 1e-1 by 3 seeds) and return the run of the one chosen on val.

    standardize: the grid once with and once without standardised vectors.
    A list of caches are views of the same documents (other layers, poolings or encoders): each gets the whole grid.
    The trial is chosen by val accuracy, averaged over seeds; test is scored once, for it alone. Every trial is in
    `record["trials"]`. BadInput: a cache that cannot be used, heads that do not fit into memory, all diverged.
    """
    check_rates(many(lr))
    given = {"heads": many(head), "lrs": many(lr), "weight_decays": many(weight_decay), "batch_sizes": many(batch_size)}
    lists = {name: tuple(dict.fromkeys(values)) for name, values in given.items() if values}
    lists |= {"standardize": (False, True)} if standardize else {}
    grid = sweeps.Grid(**lists, **({"epochs": epochs} if epochs else {}))
    if tensorboard:
        require_tensorboard()
    with spoken(progress):
        say_linear(activation, grid.heads)
        common = Common(Path(runs_dir), tuple(range(seeds)), seed, activation, class_weight, tensorboard=tensorboard)
        if isinstance(cache, list) and len(cache) > 1:
            opened = [one if isinstance(one, FeatureCache) else open_cache(one) for one in cache]
            record, best = views.run_views(opened, lambda one: loaded(one, device), grid, common)
            found = FinishedRun.of(record, cache=best.path)
        else:
            data = loaded(cache[0] if isinstance(cache, list) else cache, device)
            say_batches(data, grid.batch_sizes)
            found = FinishedRun.of(sweeps.run_sweep(data, grid, common), cache=data.cache.path)
        write_report(common.runs_dir)
        return found


def loaded(cache: FeatureCache | str | Path, device: str) -> HeadData:
    """The vectors of a cache in memory; a second call with the same open cache finds them there."""
    cache = cache if isinstance(cache, FeatureCache) else open_cache(cache)
    device = resolve_device(device)
    if device not in cache.in_memory:
        cache.in_memory[device] = load(cache, device)
    return cache.in_memory[device]


def chosen_recipes(names: list, lrs: list, heads: list, lr_scale: float) -> list:
    """The recipes to run: those named, or all four when no rate is given. BadInput where settings contradict each other."""
    if names and (lrs or heads):
        raise BadInput("a recipe brings its own head and learning rate: leave out head and lr, or scale it with lr_scale")
    if heads and not lrs:
        raise BadInput("a head needs a learning rate: give lr, or sweep to find one")
    if lrs and lr_scale != 1:
        raise BadInput("lr_scale multiplies the rates of recipes: with lr give the rate itself")
    check_rates(lrs)
    if lrs:
        return []
    return [scaled(find_recipe(name, "train_head.py"), lr_scale) for name in names or recipes_of("train_head.py")]


def jobs_of(recipes: list, heads: list, lrs: list, epochs: int | None, sizes: list, decays: list) -> list[HeadJob]:
    """The runs to do, with the settings that the user changed."""
    jobs = [recipe_job(recipe, epochs=epochs) for recipe in recipes]
    jobs += [HeadJob(f"{head}-lr{lr!r}", head, lr, epochs or EPOCHS) for head, lr in product(heads or ["1C"], lrs)]
    return [
        replace(job, batch_size=size, weight_decay=decay) for job in jobs for size in sizes or [64] for decay in decays or [0.0]
    ]


def say_linear(activation: str, heads) -> None:
    if activation == "none" and any(head != "1C" for head in heads):
        say("--activation none: three linear layers with no activation between them are one linear layer")


def table(runs: list[FinishedRun]) -> str:
    """Val accuracy by epoch and the test figures of several runs side by side."""
    return accuracy_table([run.record for run in runs])


def seeds_of(seeds: int | None, seed: int) -> tuple[int, ...]:
    return tuple(range(seeds)) if seeds else (seed,)


def many(value) -> list:
    """A setting given once or as a list, each value once; [] for None."""
    if value is None:
        return []
    return list(dict.fromkeys(value)) if isinstance(value, list) else [value]
