"""The word `demo` in place of a corpus: a generated Chinese sample and a tiny BERT, built offline once and reused."""

import contextlib
import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twostage.errors import BadInput
from twostage.progress import say

DEFAULT_MODEL = "bert-base-chinese"
PER_CLASS = 150  # documents, on average
STEPS = 300  # of pretraining
SEED = 0
EDITION = "3"  # one more whenever other bytes would be built, so that an older demo is built anew


def resolve(corpus: str, model: str | None, cache_dir: Path | str) -> tuple[Path, str]:
    """(corpus path, model) as asked; `demo` means the sample and the BERT under `cache_dir`/demo, built if need be.

    Only the bare word is the demo: ./demo is a folder. A ready demo imports neither torch nor transformers.
    BadInput: another model asked for with the demo, or a cache folder that can't be written.
    """
    if str(corpus) != "demo":
        return Path(corpus), model or DEFAULT_MODEL
    folder = Path(cache_dir) / "demo"
    bert = folder / "bert"
    if model is not None and Path(model).absolute() != bert.absolute():
        raise BadInput(f"the demo brings its own tiny BERT: leave out --model {model}, or give a corpus folder with it")
    if not is_ready(folder):
        try:
            build(folder)
        except OSError as error:
            reason = error.strerror or error
            raise BadInput(f"cannot build the demo in {folder}: {reason}; give another --cache-dir") from error
    return folder / "THUCNews", str(bert)


def is_ready(folder: Path) -> bool:
    """Whether a demo of this edition stands there; a folder under its final name is always a whole one."""
    try:
        return (folder / "edition").read_text(encoding="utf-8").strip() == EDITION
    except OSError:
        return False


def build(folder: Path, per_class: int = PER_CLASS, steps: int = STEPS, seed: int = SEED) -> None:
    """Write the whole demo beside `folder`, then rename it: killed at any moment it leaves nothing under that name.

    A second process waits for the first and then finds its work done. OSError: the place can't be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.partial")
    with only_one(folder.with_name(f"{folder.name}.lock")):
        if is_ready(folder):
            return
        for old in (partial, folder):  # of a killed build, of an older edition
            if old.exists():
                shutil.rmtree(old)
        try:
            write_demo(partial, per_class, steps, seed)
            partial.rename(folder)
            sync(folder.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def write_demo(folder: Path, per_class: int, steps: int, seed: int) -> None:
    """The sample (THUCNews/<class>/<n>.txt), the BERT (bert/) and the edition, all on the disk at return."""
    from twostage.demo.text import documents

    sample = documents(per_class, seed)
    say(f"demo: writing {len(sample):,} generated documents and pretraining a tiny BERT on them, once, in {folder.parent}")
    for name, number, text in sample:
        path = folder / "THUCNews" / name / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8"))

    from twostage.demo.bert import write_bert  # late: a demo that stands needs no torch

    write_bert([text for _, _, text in sample], folder / "bert", steps=steps, seed=seed)
    (folder / "edition").write_text(f"{EDITION}\n", encoding="utf-8")
    with ThreadPoolExecutor(16) as pool:  # a file system commits many waiting files at once
        list(pool.map(sync, [*folder.rglob("*"), folder]))


def sync(path: Path) -> None:
    """Have a file or folder written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def only_one(path: Path):
    """Hold a lock that dies with its process; wait, and say so, while another process holds it."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("demo: another process is building it; waiting")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
