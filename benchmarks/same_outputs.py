"""What the demo leaves, as hashes: run it in two checkouts and compare, where a change must change nothing.

python benchmarks/same_outputs.py                  this checkout
python benchmarks/same_outputs.py --checkout DIR   another one, with this environment

Times, memory, versions, dates and the folder it ran in are left out of every hash; vectors, weights, predictions, settings,
losses, accuracies and every printed figure are in. The demo's lines are printed one a hash, so that `diff` shows what moved.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
COMMANDS = (
    ("extract.py", "demo"),
    ("extract.py", "demo", "--pooling", "mean", "--cache-dir", "cache/mean"),
    ("train_head.py", "--recipe", "1C3", "1C4", "3C4", "3C4-big", "--lr-scale", "30"),
    ("train_head.py", "--sweep", "--ceiling", "--learning-curve"),
    ("finetune.py", "demo", "--recipe", "B4C3", "B4", "--lr-scale", "100", "--epochs", "2"),
    ("-m", "twostage.predict", "runs/sweep", "球队客场取胜晋级八强"),
    ("-m", "twostage.export", "runs/sweep"),
    ("-m", "twostage.report", "--markdown"),
)
# Keys of run.json that differ from run to run, or were added since.
PASSING = {
    "seconds", "eval_seconds", "wall_seconds", "peak_memory_bytes", "created", "versions", "points_per_minute", "path", "threads", "model",
}  # fmt: skip
PASSING_TEXT = re.compile(
    r"[-+]?[\d.,:]+ (?:s|GB|min|points a minute)\b|(?<![\d.])\d+\.\d\d(?= \||$)|[\d,]+(?= \|$)|\d+ heads were trained in", re.M
)


def settled(value):
    """A JSON value without what passes."""
    if isinstance(value, dict):
        return {key: settled(item) for key, item in value.items() if key not in PASSING and not is_path(item)}
    return [settled(item) for item in value] if isinstance(value, list) else value


def is_path(value) -> bool:
    return isinstance(value, str) and value.startswith("/")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def hashes(folder: Path, checkout: Path) -> list[tuple[str, str]]:
    """(hash, name) of what the demo's commands leave in `folder` and print."""
    found = []
    for words in COMMANDS:
        words = [str(checkout / word) if word.endswith(".py") else word for word in words]
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, capture_output=True, text=True, encoding="utf-8",
            env=os.environ | {"PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr}")
        text = re.sub(r" +", " ", PASSING_TEXT.sub("#", done.stdout.replace(str(folder), ".")))
        found.append((digest(text.encode()), "stdout of " + " ".join(words).replace(f"{checkout}/", "")))
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in {".h5", ".safetensors", ".npz"}:
            found.append((digest(path.read_bytes()), name))
        elif path.name in {"run.json", "config.json"}:
            value = settled(json.loads(path.read_text(encoding="utf-8")))
            found.append((digest(json.dumps(value, sort_keys=True).encode()), f"{name} without times"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=HERE, metavar="DIR", help="whose code runs (default: this one)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty folder to run in, kept (default: a passing one)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        folder = asked.keep or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        for value, name in hashes(folder.resolve(), asked.checkout.resolve()):
            print(value, name)


if __name__ == "__main__":
    main()
