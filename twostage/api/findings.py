"""What the vectors of a cache know about its documents, as calls; kept in the run.json of a run on that cache."""

from pathlib import Path

from twostage.api.run import FinishedRun
from twostage.api.training import loaded
from twostage.cache.reader import FeatureCache, read_facts
from twostage.corpus.again import texts_of
from twostage.heads import near_duplicates as near
from twostage.heads import suspects as labels
from twostage.progress import spoken
from twostage.report.build import write_report
from twostage.runs.folder import add_to_run


def suspects(cache: FeatureCache | str | Path, run: FinishedRun, *, device: str = "auto", progress: bool = False) -> str:
    """Rank all labels by how wrong they look, keep the ranking in the run's folder, and return the first of it as lines."""
    with spoken(progress):
        found = labels.find_suspects(loaded(cache, device), run.path)
        return kept(run, suspects=found) and labels.suspects_text(found, run.record, run.path)


def near_duplicates(cache: FeatureCache | str | Path, run: FinishedRun, *, device: str = "auto", progress: bool = False) -> str:
    """Find the test documents that are all but in train, keep them in the run's folder, and return the nearest as lines."""
    with spoken(progress):
        data = loaded(cache, device)
        found = near.find_near_duplicates(data, run.path, lambda rows: texts_again(data.cache, rows))
        return kept(run, near_duplicates=found) and near.near_duplicates_text(found, run.record, run.path)


def texts_again(cache: FeatureCache, rows) -> list[str | None]:
    """The texts of these rows, read from where the corpus lay when it was encoded; None where they are gone or changed."""
    facts = read_facts(cache.path)
    if not isinstance(facts.get("corpus"), str) or not isinstance(facts.get("columns", {}), dict):
        return [None] * len(rows)
    columns = {name: value for name, value in facts.get("columns", {}).items() if name in ("text", "label", "split")}
    sources = [cache.source(row) for row in rows]
    return texts_of(facts["corpus"], sources, cache.digest[rows], facts.get("encoding") or "utf-8-sig", **columns)


def kept(run: FinishedRun, **found) -> FinishedRun:
    """The run, with what was found out about its data in its record and in the report."""
    add_to_run(run.path, **found)
    run.record.update(found)
    write_report(run.path.parent)
    return run
