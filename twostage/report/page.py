"""The report's page: its templates, and the words and charts that they may use."""

import re
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from twostage.recipes import RECIPES
from twostage.report import figures, sections, verdict, words
from twostage.runs import groups
from twostage.runs.comparison import compare

MOST_CLASSES = 40  # in a confusion matrix that can still be read


def render(**given) -> str:
    """The whole page, from page.html.j2; all that is given is plain text and is escaped."""
    return _templates().get_template("page.html.j2").render(given)


@lru_cache(maxsize=1)
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, finalize=visible, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    for module in (figures, sections, verdict, words, groups):
        templates.globals.update(
            {name: f for name, f in vars(module).items() if getattr(f, "__module__", "") == module.__name__}
        )
    templates.globals.update(compare=compare, RECIPES=RECIPES, MOST_CLASSES=MOST_CLASSES)
    templates.filters["whole"] = whole
    return templates


def alone(chart: Markup) -> str:
    """A chart with the rules of the style sheet that it needs, and with no others: for a notebook, on white."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    colours = re.search(r":root (\{[^}]*\})", style)[1]
    rules = "\n".join(rule.replace("svg", ".twostage svg") for rule in re.findall(r"^svg[^{]*\{[^}]*\}", style, re.M))
    own = ".twostage { color-scheme: light; background: var(--paper); padding: 12px; overflow-x: auto; }"
    font = ".twostage svg text { font-family: sans-serif; }"
    return f'<div class="twostage"><style>.twostage {colours}\n{own}\n{rules}\n{font}</style>{chart}</div>'


def visible(value):
    """Characters that HTML forbids are made visible; what is HTML already stays."""
    if isinstance(value, Markup):
        return value
    return re.sub(r"[\x00-\x08\x0b-\x1f]", "\N{REPLACEMENT CHARACTER}", str(value))


def whole(sentence: str) -> Markup:
    """A sentence as HTML in which no figure is broken over lines: 1e-4, p = 0.02."""
    return Markup(re.sub(r"[\d.]+e-\d+|p (=|&lt;) [\d.]+", r'<span class="whole">\g<0></span>', str(escape(visible(sentence)))))
