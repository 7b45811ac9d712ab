"""What fine-tuning buys over the best frozen head, on the same test documents."""

from pathlib import Path

from twostage.report.words import chance, memory, paired_p, seconds
from twostage.runs.views import group_runs, load_runs


def against_frozen(runs_dir: Path, run: Path) -> dict | None:
    """A finished fine-tuned run beside the best frozen one (chosen on val) that was scored on the same test documents.

    None where there is none. Accuracies are 0 to 1; mcnemar_p asks whether chance alone could make them differ so much;
    points_per_minute is what the extra time bought, None where it took no more time.
    """
    for group in group_runs(load_runs(Path(runs_dir))[0]):
        tuned = next((one for one in group.complete if one.path == Path(run)), None)
        if tuned is None or group.frozen is None or tuned is group.frozen:
            continue
        frozen = group.frozen
        gain, extra = tuned.accuracy - frozen.accuracy, tuned.seconds - frozen.seconds
        found = {"points_gained": 100 * gain, "mcnemar_p": paired_p(frozen, tuned)}
        found["points_per_minute"] = 100 * gain / (extra / 60) if extra > 0 else None
        for which, one in (("frozen", frozen), ("tuned", tuned)):
            found[which] = {
                "run": one.name,
                "accuracy": one.accuracy,
                "ci95": list(one.interval),
                "macro_f1": one.record["test_macro_f1"],
                "seconds": one.seconds,
                "peak_memory_bytes": one.record.get("peak_memory_bytes"),
            }
        return found
    return None


def comparison_lines(found: dict) -> list[str]:
    """The comparison as a small table and a sentence."""
    rows = [("", "test accuracy", "95 % interval", "macro-F1", "time", "peak GB")]
    for which in ("frozen", "tuned"):
        one = found[which]
        low, high = one["ci95"]
        figures = (f"{one['accuracy']:.3f}", f"{low:.3f}-{high:.3f}", f"{one['macro_f1']:.3f}", seconds(one["seconds"]))
        kind = {"frozen": "frozen", "tuned": "fine-tuned"}[which]
        rows.append((f"{kind} {one['run']}", *figures, memory(one["peak_memory_bytes"])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    rate = found["points_per_minute"]
    bought = "" if rate is None else f", {rate:+.2f} points a minute of extra training"
    return [*lines, f"fine-tuning: {found['points_gained']:+.1f} points{chance(found['mcnemar_p'])}{bought}"]
