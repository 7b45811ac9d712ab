"""What fine-tuning buys over the best frozen head, on the same test documents: figures; the words are the report's."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twostage.metrics import mcnemar
from twostage.runs.groups import group_runs
from twostage.runs.views import RunView, load_runs, pair_keys


@dataclass(frozen=True)
class Comparison:
    """What a second run gains over a first: `gain` in accuracy (0 to 1), `extra` in seconds, and McNemar's p, None without
    the predictions of both: could chance alone make them differ so much?"""

    gain: float
    extra: float
    p: float | None

    @property
    def points_per_minute(self) -> float | None:
        """None where the second took no more time."""
        return 100 * self.gain / (self.extra / 60) if self.extra > 0 else None


def compare(first: RunView, second: RunView, besides: float = 0.0) -> Comparison:
    """Two finished runs on the same test documents. `besides`: seconds that the second took and that its run does not count."""
    return Comparison(second.accuracy - first.accuracy, second.seconds + besides - first.seconds, paired_p(first, second))


def paired_p(a: RunView, b: RunView) -> float | None:
    """McNemar's p for two runs on the same test documents, matched by text; None where predictions are missing."""
    if a.predictions is None or b.predictions is None:
        return None
    first, second = a.predictions, b.predictions
    if len(first["label"]) != len(second["label"]):
        return None
    right = [p["label"] == p["predicted"] for p in (first, second)]
    if not (np.array_equal(first["digest"], second["digest"]) and np.array_equal(first["label"], second["label"])):
        orders = [np.argsort(pair_keys(p["digest"], p["label"]), kind="stable") for p in (first, second)]
        right = [one[order] for one, order in zip(right, orders, strict=True)]
    return mcnemar(*right)


def against_frozen(runs_dir: Path, run: Path) -> dict | None:
    """A finished fine-tuned run beside the best frozen one (chosen on val) that was scored on the same test documents.

    None where there is none. Accuracies are 0 to 1; mcnemar_p asks whether chance alone could make them differ so much;
    points_per_minute is what the extra time bought, None where it took no more time.
    """
    for group in group_runs(load_runs(Path(runs_dir))[0]):
        tuned = next((one for one in group.complete if one.path == Path(run)), None)
        if tuned is None or group.frozen is None or tuned is group.frozen:
            continue
        found = compare(group.frozen, tuned)
        figures = {"points_gained": 100 * found.gain, "mcnemar_p": found.p, "points_per_minute": found.points_per_minute}
        for which, one in (("frozen", group.frozen), ("tuned", tuned)):
            figures[which] = {
                "run": one.name,
                "accuracy": one.accuracy,
                "ci95": list(one.interval),
                "macro_f1": one.record["test_macro_f1"],
                "seconds": one.seconds,
                "peak_memory_bytes": one.record.get("peak_memory_bytes"),
            }
        return figures
    return None
