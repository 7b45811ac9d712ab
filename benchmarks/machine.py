"""What measured figures: the processor, the versions and the commit, in words for a page of results."""

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def processor() -> str:
    """E.g. "2 cores, Intel(R) Xeon(R) Processor (AMX)"."""
    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return f"{len(os.sched_getaffinity(0))} cores, {name} ({'AMX' if amx else torch.backends.cpu.get_cpu_capability()})"


def versions(device: str = "cpu") -> str:
    import torch
    import transformers

    def git(*words):
        return subprocess.run(["git", "-C", str(HERE), *words], capture_output=True, text=True).stdout.strip()

    driver = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, " if device != "cpu" else ""
    changed = " and uncommitted changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (
        f"{driver}torch {torch.__version__}, transformers {transformers.__version__}, Python {sys.version.split()[0]}, "
        f"commit {git('rev-parse', '--short', 'HEAD') or 'unknown'}{changed}, {time.strftime('%Y-%m-%d')}"
    )
