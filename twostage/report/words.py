"""How the report says figures and runs in words."""

from datetime import datetime

from twostage.runs.groups import Group
from twostage.runs.views import RunView

HEAD_WORDS = {"1C": "1-layer head", "3C": "3-layer head", "3C-big": "3-layer head (big)"}


def rate(lr: float) -> str:
    """A learning rate without rounding it away: 1e-4, 3.16e-3, 2e-5."""
    mantissa, _, exponent = f"{lr:.4e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def seconds(n: float) -> str:
    if n < 9.95:
        return f"{n:.2g} s" if n < 0.095 else f"{n:.1f} s"
    if n < 119.5:
        return f"{n:.0f} s"
    return f"{n / 60:.0f} min" if n < 7170 else f"{n / 3600:.1f} h"


def memory(n: float | None) -> str:
    return "–" if n is None else f"{n / 1e9:.2f}"


def acc(value: float) -> str:
    return f"{value:.3f}"


def small(value: float) -> str:
    """A probability that may be too small for three digits."""
    return "< 0.001" if value < 0.001 else acc(value)


def interval(run: RunView) -> str:
    low, high = run.interval
    return f"{low:.3f} to {high:.3f}"


def points(difference: float) -> str:
    """A difference of accuracies in points: 1.9, 12.4."""
    return f"{abs(difference) * 100:.1f}"


def signed(difference: float) -> str:
    """A difference of accuracies in points, with its sign: +1.9, −12.4, ±0.0."""
    return ("+" if difference > 0 else "−" if difference < 0 else "±") + points(difference)


def count(n: int | None) -> str:
    return "–" if n is None else f"{n:,}"


def p_value(p: float | None) -> str:
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def shortened(text: str, most: int = 220) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line[:most] + ("…" if len(line) > most else "")


def per_minute(rate: float | None) -> str:
    """Points of accuracy for each minute of extra time; a dash where there was none."""
    if rate is None:
        return "–"
    return (f"{rate:.2f}" if abs(rate) < 10 else f"{rate:.0f}").replace("-", "−")


def rates(run: RunView) -> str:
    """BERT 1e-5, head 1e-4."""
    if run.is_baseline:
        return "none: no BERT"
    encoder, head = run.record.get("encoder_lr"), run.record.get("head_lr")
    if encoder is None:
        return f"head {rate(head)}" if head else "none: an optimum"
    return f"BERT {rate(encoder)}, " + (f"head {rate(head)}" if head else "head frozen")


def head_words(run: RunView) -> str:
    return HEAD_WORDS.get(run.record.get("head"), "head")


def when(run: RunView) -> str:
    try:
        return datetime.fromisoformat(run.record["created"]).strftime("%Y-%m-%d %H:%M")
    except (KeyError, TypeError, ValueError):
        return "–"


def chance(p: float | None) -> str:
    """(more than chance, McNemar p < 0.001); nothing for None."""
    if p is None:
        return ""
    return f" ({chance_words(p)})"


def chance_words(p: float) -> str:
    said = "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
    return f"{'more than chance' if p < 0.05 else 'no more than chance'}, McNemar {said}"


def group_title(group: Group) -> str:
    """What tells this test set from the others on the page: its corpus where that is known, its size, its classes."""
    names = []
    for run in group.complete:
        cache, corpus = run.record.get("cache"), run.record.get("corpus")
        told = [corpus.get("name")] if isinstance(corpus, dict) else []
        told += [cache.get("corpus_name"), cache.get("corpus")] if isinstance(cache, dict) else []
        names += [one.rstrip("/").rpartition("/")[2] for one in told if isinstance(one, str) and one]
    few = ", ".join(group.label_names[:8]) + (" …" if len(group.label_names) > 8 else "")
    tested = group.complete[0].record.get("n_test")
    size = f"{tested:,} test documents, " if tested is not None else ""
    return f"{names[0] + ': ' if names else ''}{size}{len(group.label_names)} classes ({few})"
