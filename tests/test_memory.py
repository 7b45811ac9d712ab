"""Memory: whose it is, and how much."""

import subprocess
import sys

from tests.conftest import ROOT


def test_the_peak_of_a_process_is_its_own_and_not_what_its_parent_held():
    big = b"x" * 600_000_000
    words = "from twostage.memory import process_peak_bytes; print(process_peak_bytes())"
    told = subprocess.run(
        [sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert 1_000_000 < int(told) < 300_000_000 < len(big)
