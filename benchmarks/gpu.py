"""Everything that only a GPU can show, in parts of under ten minutes each: make gpu PART=1 ... PART=6.

1 tests marked for a GPU    2 extraction, 512 tokens    3 extraction, mixed lengths    4 heads    5 fine-tuning    6 many ranks

Each part writes its section of benchmarks/gpu-<card>.md anew, in the form of RESULTS.md: command, output, versions, commit.
python benchmarks/gpu.py --part 2 --device cpu --tiny       the same steps on a CPU, at a size that proves nothing but the script
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
SECONDS = 580  # a part, at most


def steps(part: int, device: str, tiny: bool, cards: int) -> list[list[str]]:
    """The commands of a part, after `python`."""
    on = ["--device", device]
    size = (["--documents", "8", "--rounds", "1", "--alone"] if tiny else []) + on
    speed = ["benchmarks/extract_speed.py", *size]
    few = ["--documents", "300", "--epochs", "1", "--rounds", "1", "--no-sklearn"] if tiny else []
    small = ["--hidden", "64", "--layers", "1", "--steps", "3", "--max-length", "16", "--batch-size", "4"] if tiny else []
    ranks = [["benchmarks/ranks.py", *on, "--rounds", "1", "--per-class", "8", "--writer", "--ranks", "2"]] if tiny else (
        [["benchmarks/ranks.py", *on], ["benchmarks/ranks.py", *on, "--writer"]] if cards > 1 else []
    )  # fmt: skip
    return {
        1: [["-m", "pytest", "-m", "gpu", "-rs", "--durations=5", "tests"]],
        2: [[*speed, "--case", "bert-512"] if not tiny else [*speed, "--case", "minilm-articles"]],
        3: [
            [*speed, "--case", "minilm-articles", "--case", "bert-titles"]
            if not tiny
            else [*speed, "--case", "minilm-articles"]
        ],
        4: [
            ["benchmarks/heads.py", *on, *few],
            ["benchmarks/heads.py", *on, "--head", "3C", "--heads", "4", *(few or ["--documents", "6000"])],
        ],
        5: [["benchmarks/finetune.py", *on, "--lengths", kind, *small] for kind in ("full", "mixed")],
        6: ranks,
    }[part]


def with_section(page: str, number: int, text: str) -> str:
    """The page with that part's section written anew; sections stand in order."""
    title, *sections = re.split(r"(?m)^(?=## )", page)
    kept = [section for section in sections if not section.startswith(f"## Part {number}:")]
    return title + "".join(sorted([*kept, text]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, choices=range(1, 7), required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="prove the script, measure nothing")
    parser.add_argument("--out", type=Path, default=HERE / "benchmarks", help="folder of the page (default: benchmarks)")
    args = parser.parse_args()
    import torch
    from machine import versions  # beside this script

    if args.device != "cpu" and not torch.cuda.is_available():
        sys.exit(f"no GPU: torch {torch.__version__} was built for CUDA {torch.version.cuda}; see make gpu")
    cards = torch.cuda.device_count()
    card = torch.cuda.get_device_name(0) if args.device != "cpu" else "CPU"
    page = args.out / f"gpu-{re.sub(r'[^A-Za-z0-9]+', '-', card).strip('-')}.md"
    name = re.findall(rf"(?m)\b{args.part} (\S.*?)(?=    |$)", __doc__)[0]
    env = os.environ | {"PYTHONPATH": str(HERE)} | ({"TWOSTAGE_TEST_DEVICE": args.device} if args.device != "cuda" else {})
    began, failed, lines = (
        time.monotonic(),
        False,
        [f"## Part {args.part}: {name}\n", f"{card} x{cards or 1}; {versions(args.device)}\n"],
    )
    for words in steps(args.part, args.device, args.tiny, cards):
        shown = "python " + " ".join(words)
        print(shown, flush=True)
        try:
            done = subprocess.run(
                [sys.executable, *words], cwd=HERE, env=env, text=True, encoding="utf-8", stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=SECONDS - (time.monotonic() - began),
            )  # fmt: skip
            text, status = done.stdout, done.returncode
        except subprocess.TimeoutExpired as error:
            text, status = (error.stdout or b"").decode("utf-8", "replace") + "\nout of time", 1
        failed |= status != 0
        print(text, flush=True)
        lines.append(f"`{shown}`\n\n```\n{text.strip()}\n```\n" + (f"exit status {status}\n" if status else ""))
    if len(lines) == 2:
        lines.append("not measured: one card here\n")
    old = page.read_text(encoding="utf-8") if page.exists() else f"# {card}\n\n"
    page.write_text(with_section(old, args.part, "\n".join(lines) + "\n"), encoding="utf-8")
    print(f"{page}: part {args.part} in {time.monotonic() - began:.0f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
