"""Several ranks started by the real torchrun, every wait bounded."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

BOUND = 180  # seconds that any run here may take on a slow machine


def torchrun(ranks: int, *words) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return subprocess.Popen(
        [*command, *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit status, standard output, and what our ranks said on standard error: torchrun's own report is its own."""
    try:
        out, log = process.communicate(timeout=BOUND)
    except subprocess.TimeoutExpired:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in [*map(int, children), process.pid]:  # each rank is in a session of its own
            os.kill(pid, signal.SIGKILL)
        raise
    return process.returncode, out, re.split(r'Traceback .*\n  File "<frozen runpy>', log)[0]


def last_lines(log: str) -> list[str]:
    return [
        line
        for line in log.split("\n")
        if line.startswith(("extract.py", "slow", "killed", "differs", "asked")) or "kept" in line
    ]
