"""A sweep over several caches of the same documents: which layer, which pooling, which encoder, and which rate for it.

Each view gets the whole grid, for the best rate depends on the scale of its vectors. One trial is chosen on val among them all;
the more there are, the more val flatters the winner, so their number is kept. Test is scored once, for the chosen.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from twostage.cache.reader import FeatureCache, read_facts
from twostage.errors import BadInput
from twostage.heads.data import HeadData
from twostage.heads.sweep import Grid, banks_of, train_grid
from twostage.heads.training import Common, finish_run, other_rates, run_settings
from twostage.progress import say, text_table
from twostage.runs.folder import create_run


def check_same_documents(caches: list[FeatureCache]) -> None:
    """BadInput, naming what differs, unless all caches hold the same documents, labels and splits in the same order."""
    first = caches[0]
    for other in caches[1:]:
        what = {
            "documents": np.array_equal(first.digest, other.digest),
            "labels": first.label_names == other.label_names and np.array_equal(first.label, other.label),
            "splits": np.array_equal(first.split_of, other.split_of),
        }
        wrong = [name for name, same in what.items() if not same]
        if wrong:
            raise BadInput(
                f"{other.path} and {first.path} differ in their {' and '.join(wrong)}: a sweep over several caches compares views "
                "of the same corpus"
            )
    twice = {one.fingerprint: one.path for one in caches}
    if len(twice) < len(caches):
        raise BadInput("the same cache is named twice: give each view once")


def run_views(
    caches: list[FeatureCache], load: Callable[[FeatureCache], HeadData], grid: Grid, common: Common
) -> tuple[dict, FeatureCache]:
    """Train the grid on each cache, score the chosen trial on test, and write the run folder `sweep`.

    Gives run.json's record with its path, and the chosen cache. One cache's vectors are in memory at a time. BadInput as for
    a sweep, and where the caches are not views of the same documents.
    """
    check_same_documents(caches)
    data = load(caches[0])
    settings = run_settings(data, common) | {"recipe": None, "lr_scale": 1.0, "n_epochs": grid.epochs}
    settings |= {"grid": grid.axes | {"seed": common.seeds}}
    views, every, best = [], [], None
    with create_run(common.runs_dir, "sweep", settings) as run:
        for number, cache in enumerate(caches):
            data = load(cache)
            trials = [replace(t, index=t.index + len(every), view=number) for t in grid.trials(common.seeds)]
            say(f"view {number + 1} of {len(caches)}: {name_of(cache)}")
            found = train_grid(data, banks_of(data, trials, grid), grid, common, run)
            every += trials
            views.append(described(cache, found))
            if found and (best is None or found[0].rank > best[0].rank):
                best = *found, number
            del data
            cache.in_memory.clear()
        if best is None:
            raise BadInput(f"every head of the sweep diverged in its first epoch: {other_rates(grid.lrs)}")
        setting, head, number = best
        data = load(caches[number])
        told = data.facts() | {"views": views, "view": number, "n_trials": len(every)}
        finish_run(data, run, common, setting.best_trial, head, every, **told)
    return run.record | {"path": str(run.path)}, caches[number]


def described(cache: FeatureCache, found) -> dict:
    """What run.json says of a view: what it is, and its best setting (nothing learned where every head diverged)."""
    setting = found[0] if found else None
    return {
        "layer": int(cache.encoder.get("layer", -1)),
        "pooling": cache.encoder["pooling"],
        "val_accuracy": setting.accuracy if setting else 0.0,
        "deviation": setting.deviation if setting else 0.0,
        "head": setting.trials[0].head if setting else "1C",
        "head_lr": setting.lr if setting else 0.0,
        "cache": {"path": str(Path(cache.path).resolve())},
        "fingerprint": cache.fingerprint,
        "model": name_of(cache),
        "hidden_size": cache.hidden_size,
    }


def name_of(cache: FeatureCache) -> str:
    """The encoder's name as far as it is known, else the beginning of its digest."""
    model = read_facts(cache.path).get("model")
    return Path(model).name if isinstance(model, str) and model else cache.encoder["weights"][:8]


def views_table(record: dict) -> str:
    """Accuracy on val by encoder and layer (rows) and pooling (columns), then what was chosen."""
    views, chosen = record["views"], record["views"][record["view"]]
    poolings = list(dict.fromkeys(view["pooling"] for view in views))
    rows = {}
    for view in views:
        mark = " <- best" if view is chosen else ""
        best = f"{view['val_accuracy']:.3f} (lr {view['head_lr']:.3g}){mark}"
        row = rows.setdefault((view["model"] or "", view["layer"]), {})
        row[view["pooling"]] = f"{row[view['pooling']]}, {best}" if view["pooling"] in row else best
    lines = [
        f"accuracy on the whole val split ({record['n_val']:,} documents) of each view's best rate, mean over "
        f"{len(record['grid']['seed'])} seeds; {record['n_trials']:,} heads were compared on val",
        "",
        *text_table(
            ("encoder", "layer", *poolings),
            [(model, str(layer), *(row.get(pooling, "") for pooling in poolings)) for (model, layer), row in rows.items()],
            right=("layer",),
        ),
    ]
    return "\n".join([*lines, *chosen_lines(record, f"{chosen['model']}, layer {chosen['layer']}, {chosen['pooling']}: ")])


def chosen_lines(record: dict, view: str = "") -> list[str]:
    """The trial that a sweep chose, and its figures on test."""
    low, high = record["test_accuracy_ci95"]
    return [
        "",
        f"chosen on val: {view}{record['head']}, lr {record['head_lr']:g}, seed {record['seed']}, epoch {record['best_epoch']} "
        f"(trial {record['trial']})" + ", on standardized vectors" * bool(record.get("standardize")),
        f"test accuracy {record['test_accuracy']:.3f} (95 % interval {low:.3f}-{high:.3f}), "
        f"macro-F1 {record['test_macro_f1']:.3f}, {record['n_test']:,} documents",
    ]
