"""The report's last sections: what was got wrong, and what is wrong with the data."""

from twostage.report.mistakes import Findings, Mistake
from twostage.report.page import section, table, td, text, th
from twostage.report.words import acc

LONG = 220  # characters of a text


def mistakes_section(found: Findings, run_name: str) -> str:
    about = [
        f"The test documents that {run_name} was surest about and got wrong. Read them first: often the label is wrong, not the model.",
        *found.notes,
    ]
    if not found.mistakes and not found.notes:
        return section("Mistakes", [f"{run_name} has no error on test."], "")
    return section("Mistakes", about, "".join(_quote(m) for m in found.mistakes))


def _quote(m: Mistake) -> str:
    where = m.source if m.source is not None else f"digest {m.digest[:16]}…"
    if m.text is not None:
        whole = " ".join(m.text.split())
        said = whole[:LONG] + ("…" if len(whole) > LONG else "")
        body = f'<p class="said"><bdi>{text(said)}</bdi></p>'
    else:
        body = ""
    return (
        f'<div class="quote"><p><b><bdi>{text(m.label)}</bdi></b> taken for <b class="best"><bdi>{text(m.predicted)}</bdi></b> '
        f'<span class="soft">{acc(m.probability)}</span></p>{body}<p class="where"><bdi>{text(where)}</bdi></p></div>'
    )


def pairs_section(found: Findings) -> str:
    """Which classes are taken for which."""
    if not found.pairs:
        return ""
    head = [th("class"), th("taken for"), th("documents", "n"), th("of its class", "n")]
    rows = [[th(a), td(b), td(f"{n:,}", "n"), td(f"{share:.1%}", "n")] for a, b, n, share in found.pairs]
    return section("Confused pairs", ["The most frequent errors on test, by class."], table(["".join(head)], rows))


def data_section(found: Findings) -> str:
    """The audit of all documents, and whether truncation costs accuracy."""
    if found.audit is None:
        return ""
    lines = found.audit or ["Nothing to report: no copies, no leaks between splits, no contradicting labels, no small classes"]
    body = f'<ul class="plain">{"".join(f"<li>{text(line[:1].upper() + line[1:])}.</li>" for line in lines)}</ul>'
    if found.parts:
        head = [th("test documents"), th("documents", "n"), th("accuracy", "n")]
        rows = [[th(what), td(f"{n:,}", "n"), td(acc(a), "n")] for what, n, a in found.parts]
        body += "<h3>Truncation</h3>" + table(["".join(head)], rows)
    about = [
        "What the digests of all texts tell: copies, texts in more than one split, texts under more than one label, small classes."
    ]
    return section("The data", about, body)
