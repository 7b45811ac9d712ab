"""One writer a cache: an advisory lock on a file of its own, which says who holds it."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path

from twostage.cache.pages import disk_trouble
from twostage.errors import BadInput


def take_lock(path: Path, target: Path) -> int:
    """Lock `path` for the writer of `target` -> file descriptor. BadInput naming the process that has it already.

    The lock belongs to the open file, so it ends with the process, however that dies.
    """
    while True:
        with disk_trouble(path, "cannot be created", "give another --cache-dir"):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            with disk_trouble(path, "cannot be locked", "give a --cache-dir on another disk"):
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BadInput(f"{target}: {holder(fd)} writes it; wait for that, or stop it") from None
                if still_there(fd, path):
                    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, json.dumps(note).encode(), 0)
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its holder removed it between our open and our lock


def release_lock(fd: int, path: Path) -> None:
    """Remove the lock file, then let go."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass  # an empty lock file blocks nobody
    finally:
        os.close(fd)


def still_there(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def holder(fd: int) -> str:
    try:
        note = json.loads(os.pread(fd, 4096, 0))
        return f"process {note['pid']} on {note['host']} (since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
