"""Run folders: what a training run leaves behind. The keys of run.json are those of RunRecord.

<runs-dir>/<name>/run.json          settings and results; `status` is running, complete, failed or interrupted
                  metrics.jsonl     one line an epoch, as it goes; events.out.tfevents.* beside it with --tensorboard
                  predictions.npz   digest, label, predicted, probabilities, source of the test documents
                  head/ or model/   what was trained
"""

import contextlib
import errno
import itertools
import json
import os
import time
from pathlib import Path

import numpy as np

from twostage.errors import BadInput
from twostage.files import discard, disk_trouble, partial_of, release_lock, replacing, sweep, sync, write_text
from twostage.memory import process_peak_bytes
from twostage.runs.events import Events, remove_events
from twostage.runs.record import SCHEMA, checked, undeclared
from twostage.versions import versions

ROOM_BYTES = 1 << 15


class Run:
    """A run being written. Used as a context manager: leaving it on an error records `failed` or `interrupted`, and an
    OSError, which is the disk's of this folder, becomes a BadInput. follows: another process writes it, this one trains along."""

    def __init__(self, path: Path, record: dict, lock=None, follows: bool = False):
        self.path, self.record, self.started, self.lock, self.follows = path, record, time.monotonic(), lock, follows
        self.events = None  # open once something is logged, where the record asks for them

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self.follows:
            return
        discard(room_of(self.path))
        if kind is not None and self.record["status"] != "complete":
            status = "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
            self.record |= {"status": status, "error": str(error)}
            with contextlib.suppress(OSError):  # the reason that ended the run is the one to be told
                self.write()
        if self.lock is not None:
            release_lock(self.lock)
        if self.events is not None:
            with contextlib.suppress(OSError):
                self.events.close()
        if isinstance(error, OSError):
            raise BadInput(
                f"{self.path}: {error.strerror or error}: make room there, or give another --runs-dir, and run the command again"
            ) from None

    @contextlib.contextmanager
    def failed_by_errors(self):
        """For what stands between the folder and `with run:`: where it fails, so has the run; else the run goes on."""
        with contextlib.ExitStack() as leaving:
            leaving.push(self)
            yield
            leaving.pop_all()

    def write(self) -> None:
        """Replace run.json by the record as it is now."""
        if self.follows:
            return
        write_record(self.path, self.record)

    def log(self, *lines: dict) -> None:
        """Append lines to metrics.jsonl: each an epoch of the run, or of one of its trials."""
        if self.follows:
            return
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(_plain(line), ensure_ascii=False) + "\n" for line in lines)
        if self.record.get("tensorboard"):
            self.events = self.events or Events(self.path)
            self.events.add(list(lines))

    def rewrite_log(self, lines: list[dict]) -> None:
        """Begin metrics.jsonl anew with these lines: what a resumed run had behind it at its checkpoint."""
        if self.follows:
            return
        write_text(self.path / "metrics.jsonl", "")
        remove_events(self.path)
        self.log(*lines)

    def finish(self, **results) -> None:
        """Mark the run complete, with its results. wall_seconds and peak_memory_bytes are filled in unless given."""
        if (self.path / "metrics.jsonl").exists():
            sync(self.path / "metrics.jsonl")
        spent = {"wall_seconds": round(time.monotonic() - self.started, 3), "peak_memory_bytes": process_peak_bytes()}
        done = self.record | spent | results | {"status": "complete"}
        write_record(self.path, done)
        self.record = done


def run_folders(runs_dir: Path) -> list[Path]:
    """What stands in a runs folder, without what a kill has left half made: a run that is gone on with there would be swept away."""
    return [path for path in Path(runs_dir).iterdir() if not path.name.startswith(".")] if Path(runs_dir).is_dir() else []


def create_run(runs_dir: Path, name: str, settings: dict) -> Run:
    """A new folder called `name`, or `name-2`, `name-3` ... when taken: nothing is overwritten. BadInput if it can't be made.

    It appears with its run.json in it; an empty folder, as an older version left after a kill, gives way.
    """
    runs_dir = Path(runs_dir)
    record = {"schema": SCHEMA, "status": "running", "name": name, **settings, "versions": versions()}
    record["created"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    young = partial_of(runs_dir / name)
    try:
        sweep(runs_dir)
        discard(young)
        young.mkdir(parents=True)
        reserve_room(young)
        for number in itertools.count(1):
            path = runs_dir / (name if number == 1 else f"{name}-{number}")
            if path.is_dir() and any(path.iterdir()):
                continue
            record["name"] = path.name
            write_record(young, record)
            try:
                os.rename(young, path)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):  # taken a moment ago
                    continue
                raise
            young = path  # where the disk refuses now, it goes again
            sync(runs_dir)
            return Run(path, record)
    except OSError as error:
        discard(young)
        raise BadInput(
            f"cannot create a run in {runs_dir} ({error.strerror}): give a --runs-dir that can be written to"
        ) from None
    except BaseException:
        discard(young)
        raise


def room_of(path: Path) -> Path:
    """A file of a running run that only takes up room, so that on a full disk run.json can still say that it failed."""
    return partial_of(path / "room")


def reserve_room(path: Path) -> None:
    with replacing(room_of(path)) as file:  # random bytes: no file system makes them smaller
        file.write(os.urandom(ROOM_BYTES))


def add_to_run(path: Path, **keys) -> None:
    """Add keys to the run.json of a finished run: what was found out about it later. BadInput where the disk refuses."""
    with disk_trouble(Path(path), "cannot be written", "make room there"):
        write_record(Path(path), read_run(path) | keys)


def write_record(path: Path, record: dict) -> None:
    """Replace the run.json of a run folder."""
    assert not undeclared(record), f"declare {undeclared(record)} in twostage/runs/record.py: its docstring says how"
    write_json(path / "run.json", record)


def read_run(path: Path) -> dict:
    """The record in run.json, checked. BadInput: not a run folder, or a damaged one."""
    file = Path(path) / "run.json"
    try:
        record = json.loads(file.read_text(encoding="utf-8", errors="surrogateescape"))
        if isinstance(record, dict) and record.get("schema") == SCHEMA:
            return checked(record)
    except FileNotFoundError:
        raise BadInput(
            f"{path} is not a run folder (it has no run.json): give a folder that a training script printed"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{file} is damaged ({error}): remove the run or train it again") from None
    raise BadInput(f"{file} is not a run of this version (schema {SCHEMA}): train it again")


def best_epoch(epochs: list[dict]) -> int:
    """The epoch (from 1) of highest val_accuracy, the earliest on a tie."""
    return max(epochs, key=lambda epoch: (epoch["val_accuracy"], -epoch["epoch"]))["epoch"]


def write_json(path: Path, value: dict) -> None:
    """Replace a file by JSON. Not-a-number becomes null; a path that is not UTF-8 keeps its bytes."""
    write_text(path, json.dumps(_plain(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n", "surrogateescape")


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
