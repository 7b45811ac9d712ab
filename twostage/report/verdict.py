"""The report's headline: what a frozen BERT reaches, what fine-tuning adds, and what either buys over no BERT at all.

Every run named here is the best of its kind on val, as runs/groups chooses; the tables below name the same ones.
"""

from twostage.recipes import RECIPES
from twostage.report.documents import VectorCost
from twostage.report.knowledge import ViewMap
from twostage.report.sections import extra_seconds, view_words
from twostage.report.words import acc, chance_words, head_words, interval, points, rate, seconds
from twostage.runs.comparison import compare
from twostage.runs.groups import Group
from twostage.runs.views import RunView


def verdict(group: Group, extraction: VectorCost | None, views: ViewMap | None) -> list[str]:
    """The headline; then, in smaller words, what to know of it."""
    frozen, tuned = group.frozen, group.tuned
    if frozen is None and tuned is None:
        return [f"TF-IDF and a linear classifier reach {_reached(group.baseline)}.", "There is no run with BERT beside it yet."]
    if frozen is None:
        first = f"Fine-tuned BERT ({tuned.name}) reaches {_reached(tuned)}."
        more = ["No head has been trained on frozen vectors for this test set yet, so what fine-tuning bought is not known."]
        return [" ".join([first, *_yardstick(group, extraction)]), *more]
    at = "at its optimum" if frozen.is_ceiling else f"at {rate(frozen.record['head_lr'])}"
    which = f" ({view_words(views.chosen)})" if views and views.run is frozen else ""
    first = f"A frozen BERT{which} with a {head_words(frozen)} {at} reaches {_reached(frozen)}"
    more = [f"{len(frozen.trials)} heads were trained in that time."] if frozen.swept else []
    more += [extraction.said] if extraction else []
    if tuned:
        found = compare(frozen, tuned)
        said = "adds {} points" if found.gain > 0 else "falls {} points short" if found.gain < 0 else "adds nothing"
        first += f"; fine-tuning {said.format(points(found.gain))} for {seconds(tuned.seconds)}."
        differ = f"; the difference is {chance_words(found.p)}" if found.p is not None else ""
        more.append(f"The fine-tuned run is {tuned.name}{differ}.")
    else:
        first += "."
        more.append("Nothing has been fine-tuned on this test set yet.")
    return [" ".join([first, *_yardstick(group, extraction)]), " ".join([*more, *_published_rates(group, frozen)])]


def _reached(run: RunView) -> str:
    return f"{acc(run.accuracy)} ({interval(run)}) in {seconds(run.seconds)}"


def _yardstick(group: Group, extraction: VectorCost | None) -> list[str]:
    """What BERT bought over TF-IDF, in points and in time."""
    plain, bert = group.baseline, group.bert
    if plain is None:
        return []
    found = compare(plain, bert, extra_seconds(extraction) if bert.frozen else 0)
    time = f"{seconds(found.extra)} more" if found.extra > 0 else "no more time"
    reached = f"TF-IDF without BERT reaches {_reached(plain)}"
    if found.gain <= 0:
        short = "the same" if found.gain == 0 else f"{points(found.gain)} points less"
        return [f"{reached}: BERT bought nothing over it ({short}, for {time})."]
    if found.p is not None and found.p >= 0.05:
        return [f"{reached}: BERT bought nothing that chance could not explain ({points(found.gain)} points, for {time})."]
    return [f"{reached}: BERT bought {points(found.gain)} points over it, for {time}."]


def _published_rates(group: Group, frozen: RunView) -> list[str]:
    """Where the same head stands at the published rates, if that is more than a point below."""
    slow = [
        r
        for r in group.columns
        if not r.finetuned
        and r.record.get("head_lr") == RECIPES[r.base].head_lr
        and r.record.get("head") == frozen.record.get("head")
        and r.accuracy < frozen.accuracy - 0.01
    ]
    held = " and ".join(f"{acc(r.accuracy)} at {rate(r.record['head_lr'])} ({r.name})" for r in slow)
    return [f"At the published rates the same head reaches {held}."] if slow else []
