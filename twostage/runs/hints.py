"""What a sweep's own figures say about the sweep: is the best rate on a plateau, is it at an edge, is the best epoch the last?"""

from math import sqrt


def plateau(points: list[tuple[float, float]], n_val: int) -> tuple[float, float]:
    """The stretch of rates about the best one on which accuracy differs by no more than one standard error of it.

    points: (rate, val accuracy, 0 to 1) of one head by rising rate; n_val documents were scored. Gives (lowest, highest) rate.
    """
    top = max(range(len(points)), key=lambda i: points[i][1])
    best = points[top][1]
    enough = best - sqrt(max(best * (1 - best), 0) / max(n_val, 1))
    first = last = top
    while first > 0 and points[first - 1][1] >= enough:
        first -= 1
    while last < len(points) - 1 and points[last + 1][1] >= enough:
        last += 1
    return points[first][0], points[last][0]


def open_edge(points: list[tuple[float, float]], n_val: int) -> bool:
    """Whether the best rate is the first or last of those tried and no plateau: a rate beyond may be better still."""
    best = max(points, key=lambda point: point[1])[0]
    low, high = plateau(points, n_val)
    return len(points) > 1 and best in (points[0][0], points[-1][0]) and low == high
