"""How everything is written: whole or not at all, and on the disk before anything relies on it.

A file or folder is made beside its place as .<name>.<pid>@<host>.partial (.<pid>-<thread>@ by a thread that the main one has
started), fsynced, renamed, and then its folder is fsynced.
What a kill leaves of that is swept by the next run. One process at a time writes in a place: take_lock.
"""

import contextlib
import csv
import errno
import json
import os
import re
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twostage.errors import BadInput

PARTIAL = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)(-\d+)?(@(?P<host>[^.]+))?\.partial", re.DOTALL)
NAME_BYTES = 150  # of a name that its partial keeps: a file name has room for 255
OLD = "-replaced"  # a folder on its way out, until what replaces it is on the disk
FOREIGN_SECONDS = 86_400.0  # a partial of another host, whose processes are not known here, is litter after a day


@contextlib.contextmanager
def disk_trouble(path: Path, what: str, advice: str = ""):
    """Turn what the operating system refuses into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path}: {what}: {error.strerror or error}" + (f"; {advice}" if advice else "")) from error


def partial_of(path: Path) -> Path:
    """Where this thread makes what will be called `path`."""
    name, writer = os.fsdecode(os.fsencode(path.name)[:NAME_BYTES]), os.getpid()
    if threading.current_thread() is not threading.main_thread():
        writer = f"{writer}-{threading.get_ident()}"
    return path.with_name(f".{name}.{writer}@{_host()}.partial")


@contextlib.contextmanager
def replacing(path: Path, mode: str = "wb", **options):
    """An open file (mode and options as for `open`) that takes the place of `path`, on the disk, when the block ends.

    Where the block or the disk fails, `path` is as before and nothing is left beside it.
    """
    with _taking_the_place_of(path) as partial, open(partial, mode, opener=_no_link, **options) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _taking_the_place_of(path: Path):
    """Where to write, and to have on the disk, what is then renamed to `path`."""
    partial = partial_of(path)
    try:
        yield partial
        os.replace(partial, path)
        sync(path.parent)
    except BaseException:
        discard(partial)
        raise


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Replace a file by this text in UTF-8. OSError as the operating system says it."""
    with replacing(path, "w", encoding="utf-8", errors=errors, newline="") as file:
        file.write(text)


def write_csv(path: Path, columns: tuple[str, ...], rows) -> None:
    """Replace a file by a table in UTF-8: a header, then these dicts; what a row lacks stays empty."""
    with replacing(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


@contextlib.contextmanager
def _errors_of_the_disk(path: Path):
    """safetensors and tokenizers tell the operating system's error number in words alone: make it an OSError again."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def write_tensors(path: Path, tensors: dict, metadata: dict | None = None) -> None:
    """Replace a file by these tensors as safetensors. OSError, as of any other file, where the disk refuses."""
    from safetensors.torch import save_file

    with _taking_the_place_of(path) as partial:
        with _errors_of_the_disk(path):
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)
        sync(partial)


@contextlib.contextmanager
def replacing_folder(path: Path):
    """An empty folder to fill, which takes the place of `path`, with all that is in it on the disk, when the block ends.

    What stood there is removed only then. Where the block or the disk fails, `path` is as before.
    """
    partial, old = partial_of(path), partial_of(path.with_name(path.name + OLD))
    discard(partial)
    try:
        partial.mkdir(parents=True)
        with _errors_of_the_disk(path):
            yield partial
        sync_tree(partial)
        if path.is_dir() and any(path.iterdir()):
            os.rename(path, old)
        os.rename(partial, path)
        sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            if old.exists() and not path.exists():
                os.rename(old, path)
        discard(partial)
        raise
    discard(old)


def free_space(folder: Path) -> int:
    """Bytes free where `folder` is, or would be made."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL or not os.path.isdir(path):  # a file system that does not know this for folders
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Have a folder and all that is in it written to the disk."""
    every = [*sorted(folder.rglob("*"), reverse=True), folder]
    if len(every) < 64:
        for path in every:
            sync(path)
    else:
        with ThreadPoolExecutor(16) as pool:  # a file system commits many waiting files at once
            list(pool.map(sync, every))


def discard(path: Path) -> None:
    """Remove a file or folder as far as the disk lets us."""
    with contextlib.suppress(OSError):
        path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove from a folder what killed writers left half made; put back what one was about to replace."""
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            found = PARTIAL.fullmatch(entry.name)
            if found is None or _writer_lives(entry, int(found["pid"]), found["host"]):
                continue
            target = folder / found["name"].removesuffix(OLD)
            if found["name"].endswith(OLD) and not target.exists():
                os.rename(entry, target)
            else:
                discard(entry)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:30]


def _writer_lives(partial: Path, pid: int, host: str | None) -> bool:
    if host not in (None, _host()):
        return time.time() - partial.lstat().st_mtime < FOREIGN_SECONDS
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's process
    return True


def take_lock(path: Path, target: Path, option: str, waiting=None):
    """Lock the file `path` for the one writer of `target`; give the lock to release_lock in the end.

    The lock belongs to the open file, so it ends with the process, however that dies. BadInput naming the process that has
    it already; with `waiting`, call that and wait. option: what the command line calls the folder, for the message that it
    cannot be written to.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)
    with disk_trouble(path, "cannot be locked", f"give a {option} that can be written to"):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting is None:
                raise BadInput(f"{target}: {_holder(path)} is writing it; wait for it, or stop it") from None
            waiting()
            lock.acquire()
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
    with contextlib.suppress(OSError):  # the note is for people
        path.write_text(json.dumps(note))
    return lock


def release_lock(lock) -> None:
    """Remove the lock file, then let go: filelock takes no lock on a file that has lost its name."""
    with contextlib.suppress(OSError):
        os.unlink(lock.lock_file)
    lock.release()


def _holder(path: Path) -> str:
    try:
        note = json.loads(path.read_text())
        return f"process {note['pid']} on {note['host']} (since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
