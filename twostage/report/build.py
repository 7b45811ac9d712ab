"""Build report.html and results.csv from the run folders."""

from collections import Counter
from pathlib import Path

from twostage.errors import BadInput
from twostage.files import sweep, write_text
from twostage.report.documents import documents_of
from twostage.report.knowledge import knowledge_of
from twostage.report.mistakes import findings_of
from twostage.report.page import render
from twostage.runs.groups import group_runs
from twostage.runs.results_csv import write_results
from twostage.runs.views import RunView, load_runs


def write_report(runs_dir: Path) -> Path:
    """Write <runs_dir>/report.html and results.csv and return the report's path. Damaged runs are named in it and skipped.

    BadInput where the folder does not exist or cannot be written to.
    """
    runs_dir = existing(runs_dir)
    for folder in (runs_dir, *(path for path in runs_dir.iterdir() if path.is_dir())):
        sweep(folder)
    runs, damaged = load_runs(runs_dir)
    target = runs_dir / "report.html"
    try:
        write_text(target, html(runs, damaged, runs_dir), errors="backslashreplace")
        write_results(runs, runs_dir / "results.csv")
    except OSError as error:
        raise BadInput(
            f"cannot write report.html and results.csv in {runs_dir} ({error.strerror}): give a --runs-dir that can be written to"
        ) from None
    return target


def existing(runs_dir: Path) -> Path:
    if not Path(runs_dir).is_dir():
        raise BadInput(f"{runs_dir} is not a folder: train something first, or give --runs-dir")
    return Path(runs_dir)


def html(runs: list[RunView], damaged: list[tuple[str, str]], runs_dir: Path) -> str:
    groups = group_runs(runs)
    counts = Counter([*(run.record["status"] for run in runs), *("damaged" for _ in damaged)])
    said = ", ".join(f"{n} {status}" for status, n in counts.most_common())
    if len(groups) > 1:
        said += f"; {len(groups)} test sets, figures are compared within one and never across"
    pages = []
    for group in groups:
        documents, why_not = documents_of(group, runs_dir)
        found = findings_of(group, documents, why_not, runs_dir)
        known, cost = knowledge_of(group, documents), documents and documents.extraction
        pages.append({"group": group, "found": found, "known": known, "extraction": cost})
    newest = sorted(runs, key=lambda r: r.order, reverse=True)
    return render(summary=f"Runs: {said}." if said else "No run yet.", pages=pages, runs=newest, damaged=damaged)
