"""Checkpoints that survive a kill at any moment.

<run>/checkpoints/checkpoint-<step>/   what the Trainer writes, then progress.json, then complete.json
<run>/checkpoints/best-<epoch>.safetensors   the weights of the best epoch so far

complete.json is written last, after everything else has reached the disk, and holds the size and sha256 of each file that the
checkpoint needs, the best weights included. A checkpoint counts only if all of that is as it says. Older ones
are removed only after a newer one is whole.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from twostage.errors import BadInput
from twostage.files import discard, sync, write_text
from twostage.progress import say

MARKER = "complete.json"
NOT_KEPT = ("training_args.bin",)  # a pickle that nobody reads


def step_of(folder: Path) -> int:
    """The optimizer step after which a checkpoint folder was written."""
    return int(folder.name.rpartition("-")[2])


def seal(folder: Path, best: Path | None) -> None:
    """Make a written checkpoint count: everything to the disk, then the marker; then remove what it replaces."""
    for name in NOT_KEPT:
        (folder / name).unlink(missing_ok=True)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    files += [best] if best is not None else []
    facts = {}
    for file in files:
        sync(file)
        facts[os.path.relpath(file, folder)] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
    write_text(folder / MARKER, json.dumps({"files": facts}, indent=1) + "\n")
    sync(folder.parent)
    prune(folder.parent, keep=folder, best=best)


def whole(folder: Path) -> bool:
    """Whether the checkpoint is complete and undamaged."""
    try:
        facts = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
        return bool(facts) and all(
            (folder / name).stat().st_size == fact["bytes"] and _sha256(folder / name) == fact["sha256"]
            for name, fact in facts.items()
        )
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return False


def newest_whole(checkpoints: Path) -> Path | None:
    """The last complete checkpoint; half-written or damaged ones are said and skipped. None where there is none."""
    folders = [folder for folder in checkpoints.glob("checkpoint-*") if folder.name[11:].isdecimal()]
    for folder in sorted(folders, key=step_of, reverse=True):
        if whole(folder):
            return folder
        say(f"{folder} is half-written or damaged: skipped")
    return None


def prune(checkpoints: Path, keep: Path | None, best: Path | None) -> None:
    """Remove every checkpoint but `keep`, and every best weights but `best`."""
    for entry in list(checkpoints.iterdir()) if checkpoints.is_dir() else []:
        if entry in (keep, best):
            continue
        if entry.name.startswith("checkpoint-"):
            discard(entry / MARKER)  # first of all: what is half removed must not look whole
            discard(entry)
        elif entry.name.startswith("best-"):
            discard(entry)


def bytes_needed(model) -> int:
    """Disk that a run takes at its peak: two checkpoints while one replaces the other, two best weights, or the finished model."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return 2 * (weights + 2 * trained) + 2 * weights


def check_disk(folder: Path, needed: int) -> str:
    """A line that says what a run needs. BadInput where the disk has less."""
    free = shutil.disk_usage(folder).free
    line = f"checkpoints take up to {needed / 1e9:.2f} GB of disk; {free / 1e9:.1f} GB are free"
    if free < needed:
        raise BadInput(f"{folder}: {line}: free some, or give a --runs-dir on another disk")
    return line


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
