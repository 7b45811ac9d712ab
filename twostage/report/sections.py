"""What the page's templates show of a group of runs, where that takes more than reading a key."""

from dataclasses import dataclass

from twostage.recipes import RECIPES, Recipe
from twostage.report.words import rates
from twostage.runs.groups import Group, has_published
from twostage.runs.views import RunView


@dataclass
class Column:
    """A column of the table of recipes: the newest run of a recipe, or None for one that was not run."""

    recipe: Recipe
    run: RunView | None
    subtitle: str

    @property
    def title(self) -> str:
        return self.run.record["recipe"] if self.run else self.recipe.name

    @property
    def curve(self) -> dict[int, float]:
        return dict(self.run.curve) if self.run else {}

    @property
    def chosen(self) -> int | None:
        return self.run.record["best_epoch"] if self.run else None

    @property
    def published(self) -> dict[int, float]:
        return dict(enumerate(self.recipe.published, 1))

    @property
    def scaled(self) -> bool:
        return self.title != self.recipe.name


def recipe_columns(group: Group) -> list[Column]:
    """The recipes that were run; beside published figures all seven, so that these are complete; [] where none was run."""
    shown = [Column(RECIPES[run.base], run, _subtitle(group, run)) for run in group.columns]
    run = {column.recipe.name for column in shown}
    if shown and has_published(group):
        shown += [Column(recipe, None, "not run") for name, recipe in RECIPES.items() if name not in run]
    order = list(RECIPES)
    return sorted(shown, key=lambda column: order.index(column.recipe.name))


def last_epoch(columns: list[Column], published: bool) -> int:
    return max([e for c in columns for e in c.curve] + [e for c in columns if published for e in c.published])


def _subtitle(group: Group, run: RunView) -> str:
    other = "" if run.record["recipe"] == run.name else run.name
    seeds = f"mean of {len(run.trials)} seeds" if run.trials else ""
    return "\n".join(filter(None, (*rates(run).split(", "), other, seeds, group.differs(run))))


def facts(group: Group) -> list[str]:
    """The sizes of the data, under the headline."""
    record, setting = group.best.record, dict(group.best.setting)
    said = [f"{len(group.label_names)} classes"]
    for key, what in (("n_train", "train"), ("n_val", "choose the epoch"), ("n_test", "test")):
        if record.get(key) is not None:
            said.append(f"{record[key]:,} documents to {what}")
    return said + ([setting["max_length"]] if "max_length" in setting else [])


def f1_by_class(run: RunView | None) -> dict[str, float]:
    return {row["label"]: row["f1"] for row in run.record["per_class"]} if run else {}
