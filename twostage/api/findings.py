"""What the vectors of a cache know about its documents, as calls; kept in the run.json of a run on that cache."""

from pathlib import Path

from twostage.api.run import FinishedRun
from twostage.api.training import loaded
from twostage.cache.reader import FeatureCache
from twostage.heads import suspects as labels
from twostage.progress import spoken
from twostage.report.build import write_report
from twostage.runs.folder import add_to_run


def suspects(cache: FeatureCache | str | Path, run: FinishedRun, *, device: str = "auto", progress: bool = False) -> str:
    """Rank all labels by how wrong they look, keep the ranking in the run's folder, and return the first of it as lines."""
    with spoken(progress):
        found = labels.find_suspects(loaded(cache, device), run.path)
        return kept(run, suspects=found) and labels.suspects_text(found, run.record, run.path)


def kept(run: FinishedRun, **found) -> FinishedRun:
    """The run, with what was found out about its data in its record and in the report."""
    add_to_run(run.path, **found)
    run.record.update(found)
    write_report(run.path.parent)
    return run
