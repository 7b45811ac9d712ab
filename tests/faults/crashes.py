"""Kills at every I/O call, a second kill while resuming, and errors at every call."""

import errno
import random
import shutil

from .stage import FAIL, FAIL_ON, KILL, SHORT, TORN, Stage
from .table import Row


def kills(stage: Stage, row: Row, share: float = 1) -> None:
    """Killed before each call, and in the middle of each (half of a write on disk)."""
    stage.reset()
    for at in range(stage.count_points()):
        for mode in (KILL, TORN):
            stage.reset()
            died = stage.run_writer(mode, at)
            row.add(stage.judge() if died == "killed" else f"not killed but {died}", f"mode {mode} at {at}")


def second_kills(stage: Stage, row: Row, share: float = 1) -> None:
    """Killed at each call, then killed again at each call of the resuming run."""
    stage.reset()
    saved = stage.root / "saved"
    chance = random.Random(0)
    for first in range(stage.count_points()):
        stage.reset()
        stage.run_writer(TORN if first % 2 else KILL, first)
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(stage.folder, saved)
        acknowledged = stage.progress[0]

        def restore(acknowledged=acknowledged):
            stage.reset()
            shutil.copytree(saved, stage.folder, dirs_exist_ok=True)
            stage.progress[0] = acknowledged

        restore()
        for second in range(stage.count_points()):
            if chance.random() >= share:
                continue
            restore()
            stage.run_writer(KILL if second % 2 else TORN, second)
            row.add(stage.judge(), f"{first}, then {second}")


def errors(stage: Stage, row: Row, share: float = 1) -> None:
    """ENOSPC and EIO at each call, once and from there on, and short writes: a refusal in one line, nothing lost."""
    stage.reset()
    points = stage.count_points(reads=True)
    chance = random.Random(5)
    kinds = [(FAIL, errno.ENOSPC), (FAIL_ON, errno.ENOSPC), (FAIL, errno.EIO), (FAIL_ON, errno.EIO), (SHORT, 0)]
    for at in range(points):
        for mode, number in kinds:
            if chance.random() >= share:
                continue
            stage.reset()
            said = stage.run_writer(mode, at, number, reads=True)
            verdict = stage.judge()
            if not said.startswith(("refused", "done")):
                verdict = said
            elif "\n" in said or (said.startswith("refused") and str(stage.folder) not in said):
                verdict = f"unclear refusal: {said}"
            elif said.startswith("done") and mode == SHORT and stage.progress[0] != 4:
                verdict = "a short write stopped it"
            row.add(verdict, f"{errno.errorcode.get(number, 'short write')} mode {mode} at {at}")
