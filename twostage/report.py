"""Placeholder until the report lands in this module."""

from pathlib import Path


def write_report(runs_dir: Path) -> Path:
    """Rewrite <runs_dir>/report.html and results.csv from the run folders."""
    return Path(runs_dir) / "report.html"
