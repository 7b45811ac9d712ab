"""What a person sees on a terminal: log lines and progress, all on standard error, and tables that stand straight."""

import contextlib
import sys
import time
from unicodedata import category, east_asian_width

from twostage.errors import shown
from twostage.ranks import silent

QUIET_SECONDS = 2.0  # shorter work shows no progress at all
LINE_SECONDS = 10.0  # without a terminal: a line this often


_spoken = False  # a library is silent; the scripts, and calls with progress=True, speak


@contextlib.contextmanager
def spoken(aloud: bool = True):
    """Let log lines and bars be shown inside; `aloud` False changes nothing, so a call inside a script still speaks.

    Of several processes the first alone speaks."""
    global _spoken
    before, _spoken = _spoken, _spoken or (aloud and not silent())
    try:
        yield
    finally:
        _spoken = before


def say(text: str) -> None:
    """Write one log line to standard error, where somebody wants to hear it."""
    if _spoken:
        print(text, file=sys.stderr, flush=True)


class Progress:
    """Progress of `total` units: a bar on a terminal, else a line every ten seconds; nothing for work under two seconds.

    with Progress(len(files), "files", "reading") as progress:
        progress.advance(1)                      # figures to show beside it: progress.advance(64, loss="0.31")
    """

    def __init__(self, total: int, unit: str, label: str, done: int = 0):
        self.total, self.unit, self.label, self.done, self.first = total, unit, label, done, done
        self.figures: dict[str, str] = {}
        self.bar = None

    def __enter__(self) -> "Progress":
        self.start = self.shown = time.monotonic()
        return self

    def advance(self, n: int = 1, **figures: str) -> None:
        self.done += n
        self.figures.update(figures)
        now = time.monotonic()
        if not _spoken or now - self.start < QUIET_SECONDS:
            return
        if sys.stderr.isatty():
            self._draw(n)
        elif now - self.shown >= LINE_SECONDS:
            self.shown = now
            say(self._line(now))

    def __exit__(self, *exception) -> None:
        if self.bar is not None:
            self.bar.close()

    def _draw(self, n: int) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(
                file=getattr(sys.stderr, "stream", sys.stderr),  # a bar moves the cursor
                total=self.total,
                initial=self.first,
                unit=f" {self.unit}",
                desc=self.label,
                leave=False,
                dynamic_ncols=True,
            )
            self.bar.start_t -= time.monotonic() - self.start
            n = self.done - self.first
        if self.figures:
            self.bar.set_postfix(self.figures, refresh=False)
        self.bar.update(n)

    def _line(self, now: float) -> str:
        rate = (self.done - self.first) / (now - self.start)
        left = (self.total - self.done) / rate if rate else float("inf")
        figures = "".join(f", {name} {value}" for name, value in self.figures.items())
        speed = f"{rate:,.1f}/s" if rate >= 0.05 else f"{1 / rate:,.0f} s each" if rate else "none finished yet"
        return f"{self.label}: {self.done:,}/{self.total:,} {self.unit}, {speed}, {duration(left)} left{figures}"


def duration(seconds: float) -> str:
    """0:05, 12:30 or 1:02:03."""
    if seconds == float("inf"):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


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
