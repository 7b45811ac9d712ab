"""Charts as SVG text, for pages that are read in light and dark, on phones and on paper.

Coordinates are user units = CSS pixels. Colours come from the page's CSS classes, so that a theme changes them; series also
differ in dash, marker and a label at their end, so that no colour is needed to tell them apart.
"""

import unicodedata
from dataclasses import dataclass, field

from markupsafe import escape

from twostage.report.frame import Frame

TEXT = 12  # font size of all text in a chart
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 3", "1 3", "6 2 2 2 2 2")


@dataclass
class Series:
    """A line: points (x, y) by rising x; `band` (x, low, high) is shaded behind it; `accent` sets it off from the others."""

    label: str
    points: list[tuple[float, float]]
    style: int = 0
    accent: bool = False
    hollow: bool = False
    band: list[tuple[float, float, float]] = field(default_factory=list)


@dataclass
class Spot:
    """A point with an interval (low, high) of y, and a label."""

    label: str
    x: float
    y: float
    low: float
    high: float
    style: int = 0
    accent: bool = False
    hollow: bool = False


def text_width(text: str) -> float:
    """About how many pixels the text takes; Chinese characters are square."""
    return sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.57 for c in text) * TEXT


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, in the same order from low to high, at least `gap` apart and within low..high if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    floor = low
    for i in order:
        placed[i] = floor = max(wanted[i], floor)
        floor += gap
    ceiling = high
    for i in reversed(order):
        placed[i] = ceiling = min(placed[i], ceiling)
        ceiling -= gap
    return placed


def marker(s: Series | Spot, x: float, y: float) -> str:
    """One of eight shapes by style, filled or hollow."""
    shapes = (
        "m-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z",
        "m-3.2 -3.2h6.4v6.4h-6.4z",
        "m0 -4.4l4.3 7.4h-8.6z",
        "m0 -4.8l4.8 4.8l-4.8 4.8l-4.8 -4.8z",
        "m0 4.4l4.3 -7.4h-8.6z",
        "m-1.3 -4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
        "m-4.4 0l4.4 -2.6l4.4 2.6l-4.4 2.6z",
        "m0 -4.6l1.4 3.2h3.2l-2.6 2l1 3.4l-3 -2l-3 2l1 -3.4l-2.6 -2h3.2z",
    )
    return f'<path class="{kind(s)} dot{" hollow" * s.hollow}" d="M{x:.1f} {y:.1f}{shapes[s.style % 8]}"/>'


def kind(s: Series | Spot) -> str:
    return "accent" if s.accent else "ink"


def line_chart(
    title, series, x_label, y_label, size,
    *, log_x=False, x_ticks=None, x_text="{:g}".format, marks=(), level=None, even=(), diagonal=False,
):  # fmt: skip
    """Lines with a label at their end. `marks` are (x, text): upright dashed lines, for instance the published rates.

    `level` is (y, text): a level dashed line. `even`: ticks of y, spaced evenly. `diagonal`: a dashed line from (0, 0) to (1, 1).
    """
    xs = [x for s in series for x, _ in s.points] + [x for x, _ in marks] + [0, 1] * diagonal
    ys = [y for s in series for _, y in s.points] + [y for s in series for _, *two in s.band for y in two]
    ys += [level[0]] if level else []
    right = 16 + max(text_width(s.label) * (1.1 if s.accent else 1) for s in series)
    frame = Frame(size, xs, ys, right, log_x=log_x, x_ticks=x_ticks, x_text=x_text, top=30 if marks else 16, even=even)
    parts = frame.axes(x_label, y_label)
    if diagonal:
        parts.append(f'<path class="mark" d="M{frame.x(0):.1f} {frame.y(0):.1f}L{frame.x(1):.1f} {frame.y(1):.1f}"/>')
    for x, text in marks:
        parts.append(f'<path class="mark" d="M{frame.x(x):.1f} {frame.top - 16}V{frame.bottom}"/>')
        parts.append(f'<text class="tick" x="{frame.x(x) + 4:.1f}" y="{frame.top - 6}">{escape(text)}</text>')
    if level:
        y = frame.y(level[0])
        parts.append(f'<path class="mark" d="M{frame.left} {y:.1f}H{size[0] - right:.1f}"/>')
        parts.append(f'<text class="tick" x="{frame.left + 6}" y="{y - 5:.1f}">{escape(level[1])}</text>')
    ends = [frame.y(s.points[-1][1]) for s in series]
    places = spread(ends, TEXT + 2, frame.top, frame.bottom)
    for s, place in zip(series, places, strict=True):
        if s.band:
            upper = "L".join(f"{frame.x(x):.1f} {frame.y(high):.1f}" for x, _, high in s.band)
            lower = "L".join(f"{frame.x(x):.1f} {frame.y(low):.1f}" for x, low, _ in reversed(s.band))
            parts.append(f'<path class="{kind(s)} band" d="M{upper}L{lower}z"/>')
        line = "L".join(f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in s.points)
        dash = f' stroke-dasharray="{DASHES[s.style % 8]}"' if s.style % 8 else ""
        parts.append(f'<path class="{kind(s)} line" d="M{line}"{dash}/>')
        parts += [marker(s, frame.x(x), frame.y(y)) for x, y in s.points]
        x, y = frame.x(s.points[-1][0]), frame.y(s.points[-1][1])
        edge = frame.width - right + 8
        if abs(place - y) > 3 or x < frame.width - right - 8:
            parts.append(f'<path class="leader" d="M{x + 6:.1f} {y:.1f}L{edge - 2:.1f} {place:.1f}"/>')
        parts.append(f'<text class="{kind(s)} label" x="{edge + 2:.1f}" y="{place + 4:.1f}">{escape(s.label)}</text>')
    return frame.svg(title, parts)


def spot_chart(title, spots, x_label, y_label, size, *, x_ticks, x_text="{:g}".format):
    """Labelled points with upright intervals over a logarithmic x; y by the logarithm of the error. Ticks that don't fit are left out."""
    xs = [x for s in spots for x in (s.x / 1.5, s.x * 1.5)]
    ys = [y for s in spots for y in (s.low, s.high)]
    ticks = [t for t in x_ticks if min(xs) <= t <= max(xs)]
    frame = Frame(size, xs, ys, 16, log_x=True, x_ticks=ticks, x_text=x_text)
    parts, taken = frame.axes(x_label, y_label), []
    for s in sorted(spots, key=lambda s: s.x):
        x, y = frame.x(s.x), frame.y(s.y)
        parts.append(f'<path class="{kind(s)} whisker" d="M{x:.1f} {frame.y(s.low):.1f}V{frame.y(s.high):.1f}"/>')
        parts.append(marker(s, x, y))
        taken.append((x - 5, min(y - 6, frame.y(s.high)), x + 5, max(y + 6, frame.y(s.low))))
    for s in sorted(spots, key=lambda s: -s.y):
        x, y, wide = frame.x(s.x), frame.y(s.y), text_width(s.label) * (1.1 if s.accent else 1)
        offsets = sorted((o for o in range(-140, 141, 7)), key=abs)
        places = [(side, o) for o in offsets for side in (1, -1)]
        boxes = [(x + 9 if side > 0 else x - 9 - wide, y + o - 7, side, o) for side, o in places]
        inside = [
            b
            for b in boxes
            if b[0] >= frame.left and b[0] + wide <= frame.width - 4 and frame.top - 8 <= b[1] <= frame.bottom - 14
        ]
        free = [
            b for b in inside if not any(b[0] < t[2] and b[0] + wide > t[0] and b[1] < t[3] and b[1] + 14 > t[1] for t in taken)
        ]
        left, top, side, offset = (free or inside or boxes)[0]
        taken.append((left, top, left + wide, top + 14))
        if abs(offset) > 7:
            parts.append(
                f'<path class="leader" d="M{x + side * 5:.1f} {y:.1f}L{left + (-2 if side > 0 else wide + 2):.1f} {top + 7:.1f}"/>'
            )
        parts.append(f'<text class="{kind(s)} label" x="{left:.1f}" y="{top + 11:.1f}">{escape(s.label)}</text>')
    return frame.svg(title, parts)
