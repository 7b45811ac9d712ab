"""Torture of the feature cache and of training runs: python -m tests.faults [--quick] [--only KIND …] [--without WHAT]

Prints a table of points tried, survived and silently wrong; exits 0 where all survived.
--without removes one safety net of the product, to show that the harness notices.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

CACHE = ("kills", "second kills", "errors", "power cuts", "flips", "truncations", "moved pages", "races")
TRAINING = tuple(f"{kind}: {fault}" for kind in ("head", "sweep", "fine-tuning") for fault in ("kills", "errors", "power cuts"))
KINDS = CACHE + TRAINING
WITHOUT = ("fsync-runs", "fsync-create", "fsync-create-folder", "fsync-rows", "fsync-marks", "fsync-publish-folder", "digests")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a sample of every kind, for make test")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS, help="these kinds of fault")
    parser.add_argument("--without", nargs="+", choices=WITHOUT, default=(), help="remove this safety net first")
    return parser


def preloaded(argv: list[str]) -> int:
    """Compile the shim and run again with it in front of the C library."""
    with tempfile.TemporaryDirectory() as folder:
        shim = Path(folder) / "shim.so"
        source = Path(__file__).with_name("shim.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl", "-lpthread"], check=True)
        env = {**os.environ, "LD_PRELOAD": str(shim), "OPENBLAS_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, "-m", "tests.faults", *argv], env=env).returncode


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser().parse_args(argv)
    if not os.environ.get("LD_PRELOAD", "").endswith("shim.so"):
        return preloaded(argv)
    from . import breaking, crashes, damage, power, races, training_faults
    from .stage import Stage
    from .table import HEAD, Row
    from .training import Training

    full = {
        "kills": (crashes.kills, 1, 1),
        "second kills": (crashes.second_kills, 1, 0.02),
        "errors": (crashes.errors, 1, 0.3),
        "power cuts": (power.power_cuts, 1, 0.15),
        "flips": (damage.flips, 1, 0.03),
        "truncations": (damage.truncations, 1, 1),
        "moved pages": (damage.moved_pages, 1, 0.2),
        "races": (races.races, 1, 0.2),
    }
    of_training = {
        "kills": (training_faults.kills, 1, 0.01),
        "errors": (training_faults.errors, 1, 0.005),
        "power cuts": (partial(training_faults.power_cuts, without_fsync="fsync-runs" in args.without), 1, 0.02),
    }
    start, rows, training = time.monotonic(), [], {}
    stage = Stage()
    try:
        breaking.remove(stage, args.without)
        print(HEAD, flush=True)
        for name in args.only:
            row = Row(name)
            if name in TRAINING:
                kind, _, fault = name.partition(": ")
                subject = training[kind] = training.get(kind) or Training(stage, kind)
                run, whole, quick = of_training[fault]
            else:
                subject, (run, whole, quick) = stage, full[name]
            run(subject, row, quick if args.quick else whole)
            rows.append(row)
            print(row.line(), flush=True)
    finally:
        stage.close()
    total = Row("total", *(sum(getattr(row, name) for row in rows) for name in ("tried", "survived", "silent")))
    print(total.line())
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    failures = [failure for row in rows for failure in row.failures]
    for failure in failures[:20]:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
