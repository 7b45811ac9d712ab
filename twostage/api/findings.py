"""What else the vectors of a cache tell, as calls: the best that one layer can do, what more labels would bring, wrong labels
and near-duplicates."""

from pathlib import Path

from twostage.api.arguments import held
from twostage.api.run import FinishedRun
from twostage.api.training import loaded
from twostage.cache.reader import FeatureCache, read_facts
from twostage.corpus.again import texts_of
from twostage.heads import ceiling as ceilings
from twostage.heads import learning_curve as curves
from twostage.heads import near_duplicates as near
from twostage.heads import suspects as labels
from twostage.heads.training import Common
from twostage.progress import spoken
from twostage.report.build import write_report
from twostage.runs.folder import add_to_run


@held
def ceiling(
    cache: FeatureCache | str | Path,
    *,
    class_weight: str = "none",
    device: str = "auto",
    seed: int = 0,
    runs_dir: str | Path = "runs",
    progress: bool = False,
) -> FinishedRun:
    """Fit the best possible one-layer head (logistic regression, its regularisation chosen on val) as a run to compare others with."""
    with spoken(progress):
        common = Common(Path(runs_dir), (seed,), seed, "relu", class_weight)
        found = FinishedRun.of(ceilings.run_ceiling(loaded(cache, device), common))
        write_report(common.runs_dir)
        return found


@held
def learning_curve(cache: FeatureCache | str | Path, run: FinishedRun, *, device: str = "auto", progress: bool = False) -> str:
    """Train a run's head on 1, 3, 10, 30 and 100 % of train, keep the curve in its run.json, and return it as a table."""
    record = run.record
    common = Common(run.path.parent, (0,), record["order_seed"], record["activation"], record["class_weight"])
    with spoken(progress):
        curve = curves.learning_curve(loaded(cache, device), record, common)
    add_to_run(run.path, learning_curve=curve)
    run.record["learning_curve"] = curve
    return curves.curve_table(curve, record)


def below_ceiling(top: FinishedRun, runs: list[FinishedRun]) -> str:
    """The ceiling, and how far each run falls short of it and why, as lines."""
    return ceilings.ceiling_text(top.record, [run.record for run in runs])


@held
def suspects(cache: FeatureCache | str | Path, run: FinishedRun, *, device: str = "auto", progress: bool = False) -> str:
    """Rank all labels by how wrong they look, keep the ranking in the run's folder, and return the head of it as lines."""
    with spoken(progress):
        found = labels.find_suspects(loaded(cache, device), run.path)
        return kept(run, suspects=found) and labels.suspects_text(found, run.record, run.path)


@held
def near_duplicates(cache: FeatureCache | str | Path, run: FinishedRun, *, device: str = "auto", progress: bool = False) -> str:
    """Find the test documents with a double in train, keep them in the run's folder, and return the nearest as lines."""
    with spoken(progress):
        data = loaded(cache, device)
        found = near.find_near_duplicates(data, run.path, lambda rows: texts_again(data.cache, rows))
        return kept(run, near_duplicates=found) and near.near_duplicates_text(found, run.record, run.path)


def texts_again(cache: FeatureCache, rows) -> list[str | None]:
    """The texts of these rows, read from where the corpus was when it was encoded; None where they are gone or changed."""
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
