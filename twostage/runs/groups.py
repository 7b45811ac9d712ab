"""Runs that were scored on the same test documents, and which of them are the best: the one place that chooses."""

from dataclasses import dataclass, field
from functools import cached_property

from twostage.recipes import PUBLISHED_HIDDEN_SIZE, RECIPES, of_thucnews
from twostage.runs.views import RunView


@dataclass
class Group:
    """Runs that were scored on the same test documents. `complete` by age; `head` and `tuned` are their two kinds."""

    runs: list[RunView] = field(default_factory=list)

    @cached_property
    def complete(self) -> list[RunView]:
        return [r for r in self.runs if r.complete]

    @cached_property
    def label_names(self) -> list[str]:
        return self.complete[0].record["label_names"]

    @cached_property
    def frozen(self) -> RunView | None:
        """The best on val of all heads on a frozen BERT; the ceiling is one of them."""
        return best([r for r in self.complete if r.frozen])

    @cached_property
    def tuned(self) -> RunView | None:
        return best([r for r in self.complete if r.finetuned])

    @cached_property
    def baseline(self) -> RunView | None:
        return best([r for r in self.complete if r.is_baseline])

    @cached_property
    def best(self) -> RunView:
        return best(self.complete)

    @cached_property
    def bert(self) -> RunView | None:
        """The best on val with BERT in it, frozen or fine-tuned."""
        return best([r for r in self.complete if not r.is_baseline])

    @cached_property
    def ranked(self) -> list[RunView]:
        """All that are complete, the best on val first."""
        return sorted(self.complete, key=lambda r: r.rank, reverse=True)

    @cached_property
    def ceiling(self) -> RunView | None:
        """The newest ceiling of these vectors."""
        return next((r for r in reversed(self.complete) if r.is_ceiling), None)

    @cached_property
    def columns(self) -> list[RunView]:
        """The newest run of each name and setting among the seven recipes, in the order of the published table."""
        newest = {(r.base, r.record["recipe"], r.setting): r for r in self.complete if r.base}
        order = list(RECIPES)
        return sorted(newest.values(), key=lambda r: (order.index(r.base), r.record.get("lr_scale") or 1, r.order))

    @cached_property
    def sweep(self) -> RunView | None:
        return next((r for r in reversed(self.complete) if r.swept), None)

    def newest_with(self, key: str) -> RunView | None:
        """The newest run here whose record holds something under this key."""
        return next((r for r in reversed(self.complete) if r.record.get(key)), None)

    def differs(self, run: RunView) -> str:
        """What sets this run's encoder or training set off from those of the other runs here, in words; often nothing."""
        every = [dict(r.setting) for r in self.complete if not r.is_baseline]
        names = {k for one in every for k in one if any(other.get(k) != one[k] for other in every)}
        names = {k for k in names if k == "layer" or all(k in one for one in every)}
        return ", ".join(v for k, v in run.setting if k in names)


def has_published(group: Group) -> bool:
    """Published figures belong beside runs on the 14 THUCNews classes only."""
    return of_thucnews(group.label_names)


def has_published_memory(group: Group) -> bool:
    """Published memory belongs beside runs on these classes with a BERT of the published size only."""
    return has_published(group) and any(r.record.get("hidden_size") == PUBLISHED_HIDDEN_SIZE for r in group.complete)


def best(runs: list[RunView]) -> RunView | None:
    """The run of highest accuracy on val, then macro-F1; the older on a tie."""
    return max(runs, key=lambda r: r.rank, default=None)


def group_runs(runs: list[RunView]) -> list[Group]:
    """Groups of one test set each, the one with the newest run first; a run without results joins its fingerprint's group."""
    groups: dict[str, Group] = {}
    for run in runs:
        if run.complete:
            groups.setdefault(run.test_set, Group()).runs.append(run)
    return sorted(groups.values(), key=lambda g: g.runs[-1].order, reverse=True)
