"""What a sweep's own figures say about the sweep: do several rates do equally well, or is the best one at an edge?"""

from math import sqrt

ENOUGH = 3  # rates that make a plateau

Points = list[tuple[float, float]]  # (rate, val accuracy, 0 to 1) of one head, by rising rate


def plateau(points: Points, n_val: int) -> tuple[float, float] | None:
    """The stretch of rates about the best one, lowest and highest, on which accuracy is within one standard error of its;
    n_val documents were scored. None where that is no more than two rates."""
    top = max(range(len(points)), key=lambda i: points[i][1])
    best = points[top][1]
    enough = best - sqrt(best * (1 - best) / max(n_val, 1))
    first = last = top
    while first > 0 and points[first - 1][1] >= enough:
        first -= 1
    while last < len(points) - 1 and points[last + 1][1] >= enough:
        last += 1
    return (points[first][0], points[last][0]) if last - first + 1 >= ENOUGH else None


def open_edge(points: Points, n_val: int) -> bool:
    """Whether the best rate is the first or last of those tried and on no plateau: a rate beyond may be better still."""
    best = max(points, key=lambda point: point[1])[0]
    return len(points) > 1 and best in (points[0][0], points[-1][0]) and plateau(points, n_val) is None
