"""Charts as SVG text, for pages that are read in light and dark, on phones and on paper.

Coordinates are user units = CSS pixels. Colours come from the page's CSS classes, so that a theme changes them; series also
differ in dash, marker and a label at their end, so that no colour is needed to tell them apart.
"""

import math
import unicodedata
from dataclasses import dataclass, field
from html import escape

TEXT = 12  # font size of all text in a chart
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 3", "1 3")


@dataclass
class Series:
    """A line: points (x, y) by rising x; `band` (x, low, high) is shaded behind it; `accent` sets it off from the others."""

    label: str
    points: list[tuple[float, float]]
    style: int = 0
    accent: bool = False
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


def text_width(text: str) -> float:
    """About how many pixels the text takes; Chinese characters are square."""
    return sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.57 for c in text) * TEXT


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers that enclose low..high."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(m * power for m in (1, 2, 2.5, 5, 10, 20) if span / (m * power) <= most - 2)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Powers of ten within low..high, with 2 and 5 times each where there is room."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**k for k in range(first, last + 1) for f in factors]
        ticks = [t for t in ticks if low * 0.999 <= t <= high * 1.001]
        if len(ticks) <= most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / most)]


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


class Frame:
    """The axes of a chart and the mapping from data to pixels. Values of y are accuracies, 0 to 1."""

    def __init__(self, width, height, xs, ys, right, *, log_x=False, x_ticks=None, x_text=str, y_text="{:.2f}".format):
        self.width, self.height, self.log_x = width, height, log_x
        low, high = min(ys), max(ys)
        pad = max((high - low) * 0.04, 0.004)
        self.y_ticks = [t for t in nice_ticks(max(0, low - pad), min(1, high + pad)) if -1e-9 <= t <= 1 + 1e-9]
        self.y0, self.y1 = self.y_ticks[0], max(self.y_ticks[-1], min(1.0, high + pad))
        digits = max(2, *(len(f"{t:g}".partition(".")[2]) for t in self.y_ticks))
        self.y_text = [f"{t:.{digits}f}" for t in self.y_ticks]
        self.left, self.right, self.top, self.bottom = 12 + 7 * (digits + 2), right, 16, height - 44
        self.x0, self.x1 = min(xs), max(xs)
        if self.x0 == self.x1:
            self.x0, self.x1 = (self.x0 / 2, self.x1 * 2) if log_x else (self.x0 - 0.5, self.x1 + 0.5)
        inner = width - self.left - self.right
        most = max(2, int(inner / 54))
        self.x_ticks = x_ticks if x_ticks is not None else log_ticks(self.x0, self.x1, most)
        if len(self.x_ticks) > most:
            self.x_ticks = self.x_ticks[:: math.ceil(len(self.x_ticks) / most)]
        self.x_text = x_text

    def x(self, value: float) -> float:
        a, b, v = (math.log(n) for n in (self.x0, self.x1, value)) if self.log_x else (self.x0, self.x1, value)
        return self.left + (v - a) / (b - a) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.y0) / (self.y1 - self.y0) * (self.bottom - self.top)

    def axes(self, x_label: str, y_label: str) -> list[str]:
        end = self.width - self.right
        parts = []
        for tick, text in zip(self.y_ticks, self.y_text, strict=True):
            y = self.y(tick)
            parts.append(f'<path class="grid" d="M{self.left} {y:.1f}H{end:.1f}"/>')
            parts.append(f'<text class="tick end" x="{self.left - 8}" y="{y + 4:.1f}">{text}</text>')
        for tick in self.x_ticks:
            x = self.x(tick)
            parts.append(f'<path class="axis" d="M{x:.1f} {self.bottom}v5"/>')
            parts.append(
                f'<text class="tick mid" x="{x:.1f}" y="{self.bottom + 18}">{escape(self.x_text(tick))}</text>'
            )
        parts.append(f'<path class="axis" d="M{self.left} {self.bottom}H{end:.1f}"/>')
        parts.append(f'<text class="tick end" x="{end:.1f}" y="{self.bottom + 36}">{escape(x_label)}</text>')
        parts.append(f'<text class="tick" x="{self.left}" y="{self.bottom + 36}">↑ {escape(y_label)}</text>')
        return parts

    def svg(self, title: str, parts: list[str]) -> str:
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" role="img" '
            f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
        )


def marker(style: int, x: float, y: float, kind: str) -> str:
    """One of seven shapes: circle, square, triangle, diamond, and the last three hollow."""
    r = 3.6
    shapes = (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z",
        f"M{x - r * 0.9:.1f} {y - r * 0.9:.1f}h{1.8 * r:.1f}v{1.8 * r:.1f}h{-1.8 * r:.1f}z",
        f"M{x:.1f} {y - r * 1.25:.1f}l{r * 1.2:.1f} {r * 2.1:.1f}h{-2.4 * r:.1f}z",
        f"M{x:.1f} {y - r * 1.35:.1f}l{r * 1.35:.1f} {r * 1.35:.1f}l{-r * 1.35:.1f} {r * 1.35:.1f}l{-r * 1.35:.1f} {-r * 1.35:.1f}z",
    )
    hollow = " hollow" if style % 7 >= 4 else ""
    return f'<path class="{kind} dot{hollow}" d="{shapes[style % 7 % 4]}"/>'


def line_chart(
    title, series, x_label, y_label, *, width=760, height=340, log_x=False, x_ticks=None, x_text=None, marks=()
):
    """Lines with a label at their end. `marks` are (x, text): upright dashed lines, for instance the published rates."""
    xs = [x for s in series for x, _ in s.points] + [x for x, _ in marks]
    ys = [y for s in series for _, y in s.points] + [y for s in series for _, *two in s.band for y in two]
    right = 16 + max(text_width(s.label) for s in series)
    frame = Frame(width, height, xs, ys, right, log_x=log_x, x_ticks=x_ticks, x_text=x_text or "{:g}".format)
    parts = frame.axes(x_label, y_label)
    for x, text in marks:
        parts.append(f'<path class="mark" d="M{frame.x(x):.1f} {frame.top}V{frame.bottom}"/>')
        parts.append(f'<text class="tick mid" x="{frame.x(x):.1f}" y="{frame.top - 5}">{escape(text)}</text>')
    ends = [frame.y(s.points[-1][1]) for s in series]
    places = spread(ends, TEXT + 2, frame.top, frame.bottom)
    for s, place in zip(series, places, strict=True):
        kind = "accent" if s.accent else "ink"
        if s.band:
            upper = "L".join(f"{frame.x(x):.1f} {frame.y(high):.1f}" for x, _, high in s.band)
            lower = "L".join(f"{frame.x(x):.1f} {frame.y(low):.1f}" for x, low, _ in reversed(s.band))
            parts.append(f'<path class="{kind} band" d="M{upper}L{lower}z"/>')
        line = "L".join(f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in s.points)
        dash = f' stroke-dasharray="{DASHES[s.style % 7]}"' if s.style % 7 else ""
        parts.append(f'<path class="{kind} line" d="M{line}"{dash}/>')
        parts += [marker(s.style, frame.x(x), frame.y(y), kind) for x, y in s.points]
        x, y = frame.x(s.points[-1][0]), frame.y(s.points[-1][1])
        edge = width - right + 8
        if abs(place - y) > 3 or x < width - right - 8:
            parts.append(f'<path class="leader" d="M{x + 6:.1f} {y:.1f}L{edge - 2:.1f} {place:.1f}"/>')
        parts.append(f'<text class="{kind} label" x="{edge + 2:.1f}" y="{place + 4:.1f}">{escape(s.label)}</text>')
    return frame.svg(title, parts)


def spot_chart(title, spots, x_label, y_label, *, width=760, height=340, x_text=None):
    """Labelled points with upright intervals over a logarithmic x."""
    xs = [x for s in spots for x in (s.x / 1.5, s.x * 1.5)]
    frame = Frame(
        width, height, xs, [y for s in spots for y in (s.low, s.high)], 16, log_x=True, x_text=x_text or "{:g}".format
    )
    parts, taken = frame.axes(x_label, y_label), []
    for s in sorted(spots, key=lambda s: s.x):
        kind, x, y = ("accent" if s.accent else "ink"), frame.x(s.x), frame.y(s.y)
        parts.append(f'<path class="{kind} whisker" d="M{x:.1f} {frame.y(s.low):.1f}V{frame.y(s.high):.1f}"/>')
        parts.append(marker(s.style, x, y, kind))
        taken.append((x - 5, y - 6, x + 5, y + 6))
    for s in sorted(spots, key=lambda s: -s.y):
        kind, x, y, wide = ("accent" if s.accent else "ink"), frame.x(s.x), frame.y(s.y), text_width(s.label)
        offsets = sorted((o for o in range(-70, 71, 7)), key=abs)
        places = [(side, o) for o in offsets for side in (1, -1)]
        boxes = [(x + 9 if side > 0 else x - 9 - wide, y + o - 7, side, o) for side, o in places]
        inside = [
            b
            for b in boxes
            if b[0] >= frame.left and b[0] + wide <= width - 4 and frame.top - 8 <= b[1] <= frame.bottom - 14
        ]
        free = [
            b
            for b in inside
            if not any(b[0] < t[2] and b[0] + wide > t[0] and b[1] < t[3] and b[1] + 14 > t[1] for t in taken)
        ]
        left, top, side, offset = (free or inside or boxes)[0]
        taken.append((left, top, left + wide, top + 14))
        if abs(offset) > 7:
            parts.append(
                f'<path class="leader" d="M{x + side * 5:.1f} {y:.1f}L{left + (-2 if side > 0 else wide + 2):.1f} {top + 7:.1f}"/>'
            )
        parts.append(f'<text class="{kind} label" x="{left:.1f}" y="{top + 11:.1f}">{escape(s.label)}</text>')
    return frame.svg(title, parts)
