"""The axes of a chart: ticks, and where a value stands in pixels."""

import math

from markupsafe import Markup, escape


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Powers of ten within low..high, with 2 and 5 times each where there is room."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**k for k in range(first, last + 1) for f in factors]
        ticks = [t for t in ticks if low * 0.999 <= t <= high * 1.001]
        if len(ticks) <= most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / most)]


STEPS = (0, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)


class Frame:
    """The axes of a chart and the mapping from data to pixels. Values of y are accuracies, 0 to 1.

    They are spaced by the logarithm of the error: 0.95 and 0.98 deserve to be told apart as well as 0.5 and 0.8. With
    `even`, ticks of y, they are spaced evenly between the first and the last of these.
    """

    def __init__(self, size, xs, ys, right, *, log_x=False, x_ticks=None, x_text="{:g}".format, top=16, even=()):
        self.width, self.height = size
        self.log_x, self.x_text, self.even = log_x, x_text, even
        low, high = min(ys), max(ys)
        first = min(max(i for i, s in enumerate(STEPS) if s <= max(low, 0)), len(STEPS) - 2)
        last = min((i for i, s in enumerate(STEPS) if s >= high), default=len(STEPS) - 1)
        self.y_ticks = list(even) or list(STEPS[first : max(last, first + 1) + 1])
        self.y0, self.y1 = self.y_ticks[0], self.y_ticks[-1]
        digits = max(2, *(len(f"{t:g}".partition(".")[2]) for t in self.y_ticks))
        self.y_text = [f"{t:.{digits}f}" for t in self.y_ticks]
        if high > self.y_ticks[-1]:
            self.y_text[-1] = f"≥{self.y_text[-1]}"
        self.left, self.right, self.top, self.bottom = 12 + 7 * (digits + 2), right, top, self.height - 44
        self.x0, self.x1 = min(xs), max(xs)
        if self.x0 == self.x1:
            self.x0, self.x1 = (self.x0 / 2, self.x1 * 2) if log_x else (self.x0 - 0.5, self.x1 + 0.5)
        most = max(2, int((self.width - self.left - right) / 54))
        self.x_ticks = x_ticks if x_ticks is not None else log_ticks(self.x0, self.x1, most)
        if len(self.x_ticks) > most:
            self.x_ticks = self.x_ticks[:: math.ceil(len(self.x_ticks) / most)]

    def x(self, value: float) -> float:
        a, b, v = (math.log(n) for n in (self.x0, self.x1, value)) if self.log_x else (self.x0, self.x1, value)
        return self.left + (v - a) / (b - a) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        places = (self.y0, self.y1, min(max(value, self.y0), self.y1))
        a, b, v = places if self.even else (-math.log(1 - n) for n in places)
        return self.bottom - (v - a) / (b - a) * (self.bottom - self.top)

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
            parts.append(f'<text class="tick mid" x="{x:.1f}" y="{self.bottom + 18}">{escape(self.x_text(tick))}</text>')
        parts.append(f'<path class="axis" d="M{self.left} {self.bottom}H{end:.1f}"/>')
        parts.append(f'<text class="tick end" x="{end:.1f}" y="{self.bottom + 36}">{escape(x_label)}</text>')
        parts.append(f'<text class="tick" x="{self.left}" y="{self.bottom + 36}">↑ {escape(y_label)}</text>')
        return parts

    def svg(self, title: str, parts: list[str]) -> Markup:
        return Markup(
            f'<svg viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" role="img" '
            f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
        )
