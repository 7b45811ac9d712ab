"""Columns of text that stand straight on a terminal, whatever is in them: padded by display width, harmless characters only."""

from unicodedata import category, east_asian_width

from twostage.errors import shown


def width(text: str) -> int:
    """How many columns of a terminal a text takes: two for a Chinese character, none for a combining sign."""
    return sum(0 if category(c) in ("Mn", "Me", "Cf") else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, most: int) -> str:
    """The text if it takes at most so many columns, else its beginning and an ellipsis."""
    if width(text) <= most:
        return text
    kept = ""
    for c in text:
        if width(kept + c) > most - 1:
            break
        kept += c
    return kept + "…"


def text_table(head: tuple[str, ...], rows: list[tuple], most: int = 40, right: tuple[str, ...] = ()) -> list[str]:
    """A head and rows as lines; cells are cut to `most` columns, those under a name in `right` stand on the right."""
    cells = [[cut(shown(cell), most) for cell in row] for row in (head, *rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = []
        for name, cell, wide in zip(head, row, widths, strict=True):
            space = " " * (wide - width(cell))
            padded.append(space + cell if name in right else cell + space)
        lines.append("  ".join(padded).rstrip())
    return lines
