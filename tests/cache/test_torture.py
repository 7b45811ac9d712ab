"""The quick version of the torture of caches and training runs; `make torture` runs all of it."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.faults.__main__ import CACHE, TRAINING

pytestmark = pytest.mark.skipif(not (shutil.which("cc") and sys.platform == "linux"), reason="needs cc and Linux")


def torture(*args):
    run = [sys.executable, "-m", "tests.faults", "--quick", *args]
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=600)


def figures(result):
    """tried, survived, silent wrongs of all kinds together."""
    total = re.search(r"^total +([\d,]+) +([\d,]+) +([\d,]+)$", result.stdout, re.M)
    return tuple(int(figure.replace(",", "")) for figure in total.groups())


def test_the_cache_survives_a_sample_of_every_fault():
    result = torture("--only", *CACHE)
    assert result.returncode == 0, result.stdout + result.stderr
    tried, survived, silent = figures(result)
    assert tried > 1500 and survived == tried and not silent


@pytest.mark.parametrize("without", ["fsync-create", "fsync-marks"])
def test_the_harness_notices_a_missing_fsync(without):
    result = torture("--only", "power cuts", "--without", without)
    tried, survived, _ = figures(result)
    assert result.returncode == 1 and survived < tried


def test_training_runs_survive_a_sample_of_every_fault():
    result = torture("--only", *(kind for kind in TRAINING if not kind.startswith("sweep")))
    assert result.returncode == 0, result.stdout + result.stderr
    tried, survived, silent = figures(result)
    assert tried > 20 and survived == tried and not silent


def test_the_harness_notices_a_training_run_without_fsync():
    result = torture("--only", "head: power cuts", "--without", "fsync-runs")
    tried, survived, silent = figures(result)
    assert result.returncode == 1 and survived < tried


def test_the_harness_notices_a_missing_digest_check():
    result = torture("--only", "moved pages", "--without", "digests")
    tried, survived, silent = figures(result)
    assert result.returncode == 1 and survived < tried and silent
