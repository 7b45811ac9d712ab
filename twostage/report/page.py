"""The page around the report's sections: its frame, and the pieces of HTML that sections are made of."""

import re
from html import escape

from twostage.report.style import STYLE


def page(title: str, body: str) -> str:
    """A whole HTML page that needs nothing but itself."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, about: list[str], body: str, *, wide: bool = False) -> str:
    """One part of the report: a heading, sentences about it (plain text), and its figure or table (HTML)."""
    said = "".join(f"<p>{prose(line)}</p>" for line in about)
    wrapped = f"<h2>{text(title)}</h2><div>{said}</div>" if wide else f"<h2>{text(title)}</h2>{said}"
    kind = ' class="wide"' if wide else ""
    return f'<section{kind}>\n<div class="about">{wrapped}</div>\n<div>{body}</div>\n</section>'


def text(value) -> str:
    """Plain text as HTML: escaped, and characters that HTML forbids made visible."""
    return escape("".join(c if c >= " " or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in str(value)))


def prose(sentence: str) -> str:
    """A sentence as HTML in which no figure is broken at its sign: 1e-4, 0.943."""
    return re.sub(r"[\d.]+e-\d+", r'<span class="whole">\g<0></span>', text(sentence))


def table(head: list[str], rows: list[list[str]], *, kind: str = "", foot: list[list[str]] | None = None) -> str:
    """A table in a box that scrolls by itself. `head` and `rows` hold whole cells, as made by `th` and `td`."""
    made = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    below = f'<tbody class="sum">{"".join(f"<tr>{chr(32).join(row)}</tr>" for row in foot)}</tbody>' if foot else ""
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}"><thead>{"".join(f"<tr>{h}</tr>" for h in head)}</thead>'
        f"<tbody>{made}</tbody>{below}</table></div>"
    )


def td(value, kind: str = "", more: str = "") -> str:
    return f"<td{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}{more}>{text(value)}</td>"


def th(value, kind: str = "", more: str = "", sub: str = "") -> str:
    below = f'<span class="sub">{text(sub)}</span>' if sub else ""
    return f"<th{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}{more}>{text(value)}{below}</th>"


def figure(draw) -> str:
    """A chart twice, drawn by draw((width, height)): for screens and for phones; the style shows the one that fits."""
    return f'<figure class="broad">{draw((880, 400))}</figure><figure class="narrow">{draw((348, 320))}</figure>'
