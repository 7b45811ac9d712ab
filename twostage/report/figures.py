"""The report's charts: which runs they show, and how those are drawn."""

from math import ceil

from twostage.recipes import RECIPES
from twostage.report.charts import Series, Spot, line_chart, spot_chart
from twostage.report.knowledge import CalibrationShown
from twostage.report.words import rate
from twostage.runs.groups import Group, best
from twostage.runs.views import RunView

TIMES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 3600, 7200, 18000, 36000, 86400)
OTHERS = 8  # runs of no recipe that a chart has room for, the best on val
PUBLISHED_RATES = ((1e-5, "1e-5"), (1e-4, "1e-4"))


def epoch_runs(group: Group) -> list[RunView]:
    """The newest run of each recipe, and the best of all others that were trained by epochs."""
    rest = best([r for r in group.complete if not r.base and not r.is_ceiling and not r.is_baseline])
    return [*group.columns, *([rest] if rest else [])]


def epoch_chart(size: tuple[int, int], shown: list[RunView]) -> str:
    series = [Series(r.name, r.curve, style=_style(r), accent=r.finetuned, hollow=_scaled(r)) for r in shown]
    last = max(x for s in series for x, _ in s.points)
    ticks = list(range(1, last + 1)) if last <= 20 else None
    return line_chart("Accuracy on val by epoch", series, "epoch", "val accuracy", size, x_ticks=ticks or [1, last])


def rate_series(group: Group) -> list[Series]:
    """One line a head (and batch size, and weight decay, where those vary), from the newest sweep; [] without one."""
    sweep = group.sweep
    if sweep is None:
        return []
    names = [
        k
        for k in ("head", "batch_size", "weight_decay", "class_weight", "standardize")
        if len({str(t.get(k)) for t in sweep.trials}) > 1
    ]
    found: dict[str, dict[float, list[float]]] = {}
    trials = [t for t in sweep.trials if t.get("view") == sweep.record.get("view")]  # of several views the chosen one
    for trial in trials:
        value = next(e["val_accuracy"] for e in trial["epochs"] if e["epoch"] == trial["best_epoch"])
        label = ", ".join(_said(k, trial.get(k)) for k in names or ["head"])
        found.setdefault(label, {}).setdefault(trial["head_lr"], []).append(value)
    chosen = ", ".join(_said(k, sweep.record.get(k)) for k in names or ["head"])
    return [
        Series(
            label, [(lr, sum(v) / len(v)) for lr, v in sorted(at.items())], style=i, accent=label == chosen,
            band=[(lr, min(v), max(v)) for lr, v in sorted(at.items())] if any(len(v) > 1 for v in at.values()) else [],
        )
        for i, (label, at) in enumerate(found.items())
    ]  # fmt: skip


def rate_chart(size: tuple[int, int], group: Group, series: list[Series]) -> str:
    return line_chart(
        "Accuracy on val over the learning rate", series, "learning rate", "val accuracy, best epoch", size,
        log_x=True, x_text=rate, marks=PUBLISHED_RATES,
        level=(group.ceiling.val_accuracy, "optimum of a one-layer head") if group.ceiling else None,
    )  # fmt: skip


def label_chart(size: tuple[int, int], run: RunView) -> str:
    """Accuracy over the number of labelled documents, from a run's learning curve."""
    curve = sorted(run.record["learning_curve"], key=lambda part: part["n_train"])
    series = Series(
        run.name, [(p["n_train"], p["mean"]) for p in curve], accent=True,
        band=[(p["n_train"], min(p["val_accuracy"]), max(p["val_accuracy"])) for p in curve],
    )  # fmt: skip
    ticks = sorted({p["n_train"] for p in curve})
    return line_chart(
        "Accuracy on val over the documents to train on", [series], "documents to train on", "val accuracy", size,
        log_x=True, x_ticks=ticks, x_text="{:,}".format,
    )  # fmt: skip


def cost_chart(size: tuple[int, int], group: Group) -> str:
    spots = [
        Spot(
            r.name, max(r.seconds, 0.01), r.accuracy, *r.interval, style=_style(r), accent=r.finetuned,
            hollow=_scaled(r) or r.is_baseline,
        )
        for r in [*group.columns, *sorted((r for r in group.complete if not r.base), key=lambda r: -r.val_accuracy)[:OTHERS]]
    ]  # fmt: skip
    return spot_chart(
        "Test accuracy over seconds", spots, "time, logarithmic", "test accuracy", size, x_ticks=TIMES, x_text=_time
    )


def reliability_chart(size: tuple[int, int], known: CalibrationShown) -> str:
    """Accuracy over confidence; a point below the diagonal is a head too sure of itself."""
    series = [
        Series("as trained", [(c, a) for c, a, *_ in known.before], style=1, hollow=True),
        Series(
            "calibrated", [(c, a) for c, a, *_ in known.after], accent=True,
            band=[(c, low, high) for c, _, low, high, _ in known.after],
        ),
    ]  # fmt: skip
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    return line_chart(
        "Accuracy over confidence", series, "confidence", "test accuracy", size, x_ticks=ticks, even=ticks, diagonal=True
    )


def coverage_chart(size: tuple[int, int], known: CalibrationShown) -> str:
    """Accuracy of the documents that are kept, over their share."""
    series = [Series(known.run.name, [(share, accuracy) for share, _, accuracy in known.coverage], accent=True)]
    low = min(accuracy for *_, accuracy in known.coverage)
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if 1 - low <= 5 * step)
    even = [1 - i * step for i in reversed(range(ceil((1 - low) / step - 1e-9) + 1))]
    return line_chart(
        "Accuracy over the share of documents kept", series, "kept, the surest first", "accuracy", size,
        x_ticks=[0.05, 0.2, 0.4, 0.6, 0.8, 1], x_text="{:.0%}".format,
        even=even if len(even) > 1 else [1 - step, 1],
    )  # fmt: skip


def _time(n: float) -> str:
    if n < 60:
        return f"{n:g} s"
    return f"{n / 60:g} min" if n < 3600 else f"{n / 3600:g} h"


def _style(run: RunView) -> int:
    """A recipe keeps its dash and marker from chart to chart."""
    return list(RECIPES).index(run.base) if run.base else len(RECIPES)


def _scaled(run: RunView) -> bool:
    return run.base is not None and run.record["recipe"] != run.base


def _said(key: str, value) -> str:
    return str(value) if key in ("head", "class_weight") else f"{key.replace('_', ' ')} {value}"
