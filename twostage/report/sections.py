"""What the page's templates show of a group of runs, where that takes more than reading a key."""

from twostage.recipes import RECIPES, Recipe
from twostage.report.charts import Series
from twostage.report.documents import VectorCost
from twostage.report.knowledge import CalibrationShown
from twostage.report.words import rate, rates
from twostage.runs.groups import Group, has_published
from twostage.runs.hints import open_edge, plateau
from twostage.runs.views import RunView


def recipe_columns(group: Group) -> list[dict]:
    """A column for each recipe that was run, its newest run; beside published figures for all seven, so that these are complete."""
    shown = [_column(RECIPES[run.base], run, _subtitle(group, run)) for run in group.columns]
    run = {column["recipe"].name for column in shown}
    if shown and has_published(group):
        shown += [_column(recipe, None, "not run") for name, recipe in RECIPES.items() if name not in run]
    order = list(RECIPES)
    return sorted(shown, key=lambda column: order.index(column["recipe"].name))


def _column(recipe: Recipe, run: RunView | None, subtitle: str) -> dict:
    title = run.record["recipe"] if run else recipe.name
    return {
        "recipe": recipe, "run": run, "title": title, "subtitle": subtitle, "scaled": title != recipe.name,
        "curve": dict(run.curve) if run else {}, "chosen": run.record["best_epoch"] if run else None,
        "published": dict(enumerate(recipe.published, 1)),
    }  # fmt: skip


def last_epoch(columns: list[dict], published: bool) -> int:
    return max([e for c in columns for e in c["curve"]] + [e for c in columns if published for e in c["published"]])


def _subtitle(group: Group, run: RunView) -> str:
    other = "" if run.record["recipe"] == run.name else run.name
    seeds = f"mean of {len(run.trials)} seeds" if run.trials else ""
    return "\n".join(filter(None, (*rates(run).split(", "), other, seeds, group.differs(run))))


def facts(group: Group) -> list[str]:
    """The sizes of the data, under the headline."""
    record, setting = group.best.record, dict(group.best.setting)
    said = [f"{len(group.label_names)} classes"]
    for key, what in (("n_train", "train on"), ("n_val", "choose the epoch on"), ("n_test", "test on")):
        if record.get(key) is not None:
            said.append(f"{record[key]:,} documents to {what}")
    return said + ([setting["max_length"]] if "max_length" in setting else [])


def f1_by_class(run: RunView | None) -> dict[str, float]:
    return {row["label"]: row["f1"] for row in run.record["per_class"]} if run else {}


def sweep_hints(group: Group, series: list[Series]) -> list[str]:
    """What the newest sweep says about itself: go on beyond an edge, any rate of a plateau, more epochs, other poolings."""
    run, said = group.sweep, []
    n_val = run.record.get("n_val") or 1
    for one in series:
        flat = plateau(one.points, n_val)
        if flat:
            said.append(
                f"{one.label}: rates from {rate(flat[0])} to {rate(flat[1])} do equally well, within one standard error."
            )
        elif open_edge(one.points, n_val):
            said.append(f"{one.label} is best at the edge of its range: sweep further before trusting it.")
    last = run.epochs[-1]["epoch"]
    if run.record["best_epoch"] == last:
        said.append(f"The best epoch is the last of {last}: train longer, with --epochs {2 * last}.")
    encoders = [r.record["encoder"] for r in group.complete if r.frozen and isinstance(r.record.get("encoder"), dict)]
    tried = {(str(e.get("pooling")), str(e.get("layer", -1))) for e in encoders}
    if len(tried) == 1 and not group.newest_with("views"):
        said.append(
            "Only one pooling of one layer was tried: extract.py with --pooling cls mean --layer -1 -4 makes four caches in "
            "one pass, and train_head.py sweeps them together."
        )
    return said


def coverage_rows(known: CalibrationShown) -> list[tuple[float, float, float]]:
    """A few of the shares, the largest first."""
    return [row for row in reversed(known.coverage) if round(100 * row[0]) in (100, 95, 90, 80, 70, 50)]


def extra_seconds(cost: VectorCost | None) -> float:
    """What heads took besides their own time, where that is known."""
    return cost.seconds if cost and cost.whole else 0.0


def vectorizer_words(run: RunView) -> str:
    """characters, one or two at a time (12,345 features)."""
    told = run.record.get("vectorizer")
    if not isinstance(told, dict):
        return "words"
    what = "characters" if told.get("analyzer") == "char" else "words"
    spans = {"[1, 1]": ", one at a time", "[1, 2]": ", one or two at a time"}.get(str(told.get("ngrams")), "")
    features = f" ({told['features']:,} features)" if isinstance(told.get("features"), int) else ""
    return what + spans + features


def layer_words(layer: int) -> str:
    return f"−{-layer}" + (" (last)" if layer == -1 else "") if layer < 0 else str(layer)


def view_words(view: tuple[tuple[str, int], str]) -> str:
    (_, layer), pooling = view
    return f"{pooling} of layer {layer_words(layer)}"
