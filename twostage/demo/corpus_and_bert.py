"""The word `demo` in place of a corpus: a generated Chinese sample and a tiny BERT, built offline once and reused."""

from pathlib import Path

from twostage.errors import BadInput
from twostage.files import release_lock, replacing_folder, sweep, take_lock
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


def _say_waiting() -> None:
    say("demo: another process is building it; waiting")


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
    lock = take_lock(folder.with_name(f"{folder.name}.lock"), folder, "--cache-dir", _say_waiting)
    try:
        sweep(folder.parent)
        if not is_ready(folder):
            with replacing_folder(folder) as partial:
                write_demo(partial, per_class, steps, seed)
    finally:
        release_lock(lock)


def write_demo(folder: Path, per_class: int, steps: int, seed: int) -> None:
    """The sample (THUCNews/<class>/<n>.txt), the BERT (bert/) and the edition."""
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
