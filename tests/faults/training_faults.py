"""Faults of a training run: killed at each call, each call failing, and the power cut after each."""

import errno
import hashlib
import os
import random
import shutil
from pathlib import Path

from .stage import FAIL, FAIL_ON, KILL, SHORT, TORN, in_child
from .table import Row
from .training import Training


def kills(training: Training, row: Row, share: float) -> None:
    chance = random.Random(6)
    for at in range(training.count_points()):
        for mode in (KILL, TORN):
            if chance.random() < share:
                training.reset()
                died = training.run(mode, at)
                row.add(training.judge(False) if died == "killed" else f"not killed but {died}", f"mode {mode} at {at}")


def errors(training: Training, row: Row, share: float) -> None:
    """ENOSPC and EIO at each call, once and from there on, and short writes: a refusal in one line, and a rerun works."""
    chance = random.Random(7)
    kinds = [(FAIL, errno.ENOSPC), (FAIL_ON, errno.ENOSPC), (FAIL, errno.EIO), (FAIL_ON, errno.EIO), (SHORT, 0)]
    for at in range(training.count_points()):
        for mode, number in kinds:
            if chance.random() >= share:
                continue
            training.reset()
            said = training.run(mode, at, number)
            verdict = training.judge(said.startswith("done"), settled=mode != FAIL_ON)
            if not said.startswith(("refused", "done")) or "\n" in said:
                verdict = f"unclear: {said}"
            row.add(verdict, f"{errno.errorcode.get(number, 'short write')} mode {mode} at {at}")


def power_cuts(training: Training, row: Row, share: float, without_fsync: bool = False) -> None:
    images = training.root / "images"
    shutil.rmtree(images, ignore_errors=True)
    training.reset()
    said = in_child(lambda: record(training, images, without_fsync))
    assert said == "done", said
    chance = random.Random(8)
    for image in sorted(images.iterdir(), key=lambda path: int(path.name.split("-")[0])):
        if chance.random() < share or image.name.endswith("-True"):
            training.reset()
            shutil.copytree(image, training.runs, dirs_exist_ok=True)
            row.add(training.judge(image.name.endswith("-True")), f"image {image.name}")


def record(training: Training, images: Path, without_fsync: bool) -> str:
    disk = Disk(training.runs, images, without_fsync)
    for name in ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir"):
        setattr(os, name, disk.noted(getattr(os, name)))
    training.work()
    disk.make_images(acknowledged=True, count=10)
    return "done"


class Disk:
    """What a power cut may leave of a folder. Of each folder and file the versions since its last fsync are kept; a folder has
    one version after each call that changed names, in their order, and any of them may be the one on the disk."""

    def __init__(self, root: Path, images: Path, without_fsync: bool):
        self.root, self.images, self.without_fsync = root, images, without_fsync
        self.versions: dict[int, list] = {}  # inode: bytes of a file, or {name: inode} of a folder
        self.chance, self.seen, self.busy = random.Random(9), set(), False
        images.mkdir()
        self.look()

    def noted(self, real):
        def call(*args, **more):
            if self.busy:
                return real(*args, **more)
            self.look()  # what was written and created since the call before
            answer = real(*args, **more)
            self.look()
            if real.__name__ == "fsync" and not self.without_fsync:
                inode = os.fstat(args[0]).st_ino
                self.versions[inode] = self.versions.get(inode, [b""])[-1:]
            self.make_images(acknowledged=False, count=6)
            return answer

        return call

    def look(self) -> None:
        """Note every file and folder as it is now."""
        for folder, names, files in os.walk(self.root):
            here = {name: os.lstat(os.path.join(folder, name)).st_ino for name in (*names, *files)}
            self.note(os.stat(folder).st_ino, here, {})
            for name in files:
                self.note(here[name], Path(folder, name).read_bytes(), b"")

    def note(self, inode: int, now, nothing) -> None:
        held = self.versions.get(inode)
        if held is None or type(held[-1]) is not type(now):
            held = self.versions[inode] = [nothing]
        if held[-1] != now:
            held.append(now)

    def make_images(self, acknowledged: bool, count: int) -> None:
        self.busy = True
        for _ in range(count):
            tree = self.image(os.stat(self.root).st_ino, Path())
            digest = hashlib.sha256(repr(sorted(tree.items())).encode()).digest(), acknowledged
            if digest not in self.seen:
                self.seen.add(digest)
                self.write(tree, self.images / f"{len(self.seen)}-{acknowledged}")
        self.busy = False

    def image(self, inode: int, at: Path) -> dict:
        tree = {}
        for name, child in self.chance.choice(self.versions[inode]).items():
            held = self.versions.get(child, [b""])
            if isinstance(held[-1], dict):
                tree[str(at / name)] = None
                tree |= self.image(child, at / name)
            else:
                data = self.chance.choice(held)
                torn = len(held) > 1 and self.chance.random() < 0.3
                tree[str(at / name)] = data[: len(data) // 2] if torn else data
        return tree

    def write(self, tree: dict, folder: Path) -> None:
        folder.mkdir()
        for name, data in tree.items():
            if data is None:
                (folder / name).mkdir(exist_ok=True)
            else:
                (folder / name).write_bytes(data)
