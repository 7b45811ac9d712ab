"""Several writers at once, some of them killed, and readers that look on."""

import os
import random
import signal
import time

from twostage.errors import BadInput
from twostage.files import release_lock, take_lock

from .stage import Stage, extract
from .table import Row

WRITERS = 4


def races(stage: Stage, row: Row, share: float = 1) -> None:
    chance = random.Random(4)
    for number in range(max(1, round(50 * share))):
        stage.reset()
        row.add(one_race(stage, chance), f"race {number}")
    for number in range(max(1, round(5 * share))):
        stage.reset()
        row.add(lock_contest(stage), f"lock contest {number}")


def one_race(stage: Stage, chance: random.Random) -> str:
    """Writers start over until the cache is there; a random one is killed now and then; a reader polls throughout."""
    reader = start(lambda: poll(stage))
    writers = [start(lambda: write_until_done(stage)) for _ in range(WRITERS)]
    time.sleep(chance.random() * 0.03)
    os.kill(writers[0], signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in writers]
    seen = os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1])
    if any(code not in (0, -signal.SIGKILL) for code in codes):
        return f"a writer ended with {codes}"
    return "ok" if seen == 0 and stage.path.read_bytes() == stage.reference else f"wrong: the reader saw {seen}"


def write_until_done(stage: Stage) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            extract(stage.path, stage.identity, pause=0.002)
            return
        except BadInput as refused:
            assert "is writing it" in str(refused), refused
            time.sleep(0.001)
    raise TimeoutError


def poll(stage: Stage) -> None:
    """Absent, then complete; never between."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if stage.path.exists():
            assert stage.read_verdict() == "right"
            return
    raise TimeoutError


def lock_contest(stage: Stage) -> str:
    """Many short turns: two holders at once would meet at a file that only one can create."""
    pids = [start(lambda: take_turns(stage)) for _ in range(WRITERS)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return "ok" if not any(codes) else f"wrong: two held the lock {codes}"


def take_turns(stage: Stage, turns: int = 60) -> None:
    lock, proof = stage.folder / "x.lock", stage.folder / "proof"
    while turns:
        try:
            held = take_lock(lock, stage.path, "--cache-dir")
        except BadInput:
            continue
        os.close(os.open(proof, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        proof.unlink()
        release_lock(held)
        turns -= 1


def start(work) -> int:
    pid = os.fork()
    if not pid:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid
