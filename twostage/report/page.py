"""The report's page: its templates, and the words and charts that they may use."""

import re
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from twostage.recipes import RECIPES
from twostage.report import figures, sections, verdict, words
from twostage.runs.comparison import compare
from twostage.runs.groups import has_published, has_published_memory

KNOWN = {
    "RECIPES": RECIPES, "MOST_CLASSES": 40, "compare": compare, "has_published": has_published,
    "has_published_memory": has_published_memory,
    **{f.__name__: f for f in (
        figures.cost_chart, figures.epoch_chart, figures.epoch_runs, figures.label_chart, figures.rate_chart, figures.rate_series,
        sections.f1_by_class, sections.facts, sections.last_epoch, sections.recipe_columns,
        words.acc, words.count, words.group_title, words.interval, words.memory, words.p_value, words.per_minute, words.points,
        words.rate, words.rates, words.seconds, words.shortened, words.signed, words.when, verdict.verdict,
    )},
}  # fmt: skip


def render(**given) -> str:
    """The whole page, from page.html.j2; all that is given is plain text and is escaped."""
    return _templates().get_template("page.html.j2").render(given)


@lru_cache(maxsize=1)
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, finalize=visible, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    templates.globals.update(KNOWN)
    templates.filters["whole"] = whole
    return templates


def visible(value):
    """Characters that HTML forbids are made visible; what is HTML already stays."""
    if isinstance(value, Markup):
        return value
    return re.sub(r"[\x00-\x08\x0b-\x1f]", "\N{REPLACEMENT CHARACTER}", str(value))


def whole(sentence: str) -> Markup:
    """A sentence as HTML in which no figure is broken over lines: 1e-4, p = 0.02."""
    return Markup(re.sub(r"[\d.]+e-\d+|p (=|&lt;) [\d.]+", r'<span class="whole">\g<0></span>', str(escape(visible(sentence)))))
