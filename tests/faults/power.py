"""Power cuts: the writes of a run are logged, and at every moment of it disks are made up as a power cut may leave them.

A 4 KB page written since the last fsync of its file holds any of its versions, old or new. Of the names created,
renamed and removed since the last fsync of their folder, any number persist, in their order.
"""

import os
import random
import struct
from dataclasses import dataclass, field

from .stage import COUNT, Stage
from .table import Row

PAGE = 4096
RECORD = struct.Struct("<c7xQQQQQ")


@dataclass
class File:
    """One inode: what fsync made safe, and the versions of each page and size since."""

    pages: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    newer: dict[int, list[bytes]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)

    def latest(self, page: int) -> bytes:
        return self.newer[page][-1] if page in self.newer else self.pages.get(page, bytes(PAGE))

    def write(self, offset: int, data: bytes) -> None:
        at = 0
        while at < len(data):
            page, inside = divmod(offset + at, PAGE)
            part = data[at : at + PAGE - inside]
            old = self.latest(page)
            self.newer.setdefault(page, []).append(old[:inside] + part + old[inside + len(part) :])
            at += len(part)
        self.resize(max(self.current_size, offset + len(data)))

    @property
    def current_size(self) -> int:
        return self.sizes[-1] if self.sizes else self.size

    def resize(self, size: int) -> None:
        if size != self.current_size:
            self.sizes.append(size)

    def sync(self) -> None:
        self.pages.update({page: versions[-1] for page, versions in self.newer.items()})
        self.size = self.current_size
        self.newer, self.sizes = {}, []

    def image(self, chance: random.Random, kept: float) -> bytes:
        size = chance.choice([self.size, *self.sizes])
        out = bytearray(size)
        for page in {*self.pages, *self.newer}:
            data = self.pages.get(page, bytes(PAGE))
            if page in self.newer and chance.random() < kept:
                data = chance.choice(self.newer[page])
            out[page * PAGE : (page + 1) * PAGE] = data[: max(0, size - page * PAGE)]
        return bytes(out[:size])


@dataclass
class Disk:
    files: dict[int, File] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    pending: list[tuple] = field(default_factory=list)  # changes of names since the last fsync of the folder
    folder_inode: int = 0
    acknowledged: int = 0
    now: dict[str, int] = field(default_factory=dict)

    def apply(self, op: str, inode: int, offset: int, data: bytes, name: str, other: str) -> None:
        if op == "C":
            self.files[inode] = File()
            self._rename(("C", name, inode))
        elif op == "T":
            self.files[inode].newer = {page: [bytes(PAGE)] for page in self.files[inode].pages}
            self.files[inode].resize(0)
        elif op == "W":
            self.files[inode].write(offset, data)
        elif op == "L":
            self.files[inode].resize(offset)
        elif op == "S" and inode in self.files:
            self.files[inode].sync()
        elif op == "S":
            change(self.names, self.pending)
            self.pending = []
        elif op == "R":
            self._rename(("R", name, other))
        elif op == "U":
            self._rename(("U", name))
        elif op == "M":
            self.acknowledged = max(self.acknowledged, offset)

    def _rename(self, one: tuple) -> None:
        self.pending.append(one)

    def write_image(self, chance: random.Random) -> None:
        kept = chance.choice([0.0, 0.5, 0.5, 0.9, 1.0])
        names = dict(self.names)
        change(names, self.pending[: chance.randint(0, len(self.pending))])
        for name, inode in names.items():
            with open(name, "wb") as file:
                file.write(self.files[inode].image(chance, kept))


def change(names: dict[str, int], changes: list[tuple]) -> None:
    for kind, name, *rest in changes:
        if kind == "C":
            names[name] = rest[0]
        elif kind == "R":
            names[rest[0]] = names.pop(name)
        else:
            names.pop(name, None)


def record(stage: Stage) -> list[tuple]:
    """The log of an undisturbed run."""
    path = stage.root / "log"
    stage.reset()
    log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    said = stage.run_writer(COUNT, log=log)
    os.close(log)
    assert said.startswith("done"), said
    data, at, records = path.read_bytes(), 0, []
    while at < len(data):
        op, inode, offset, size, name, other = RECORD.unpack_from(data, at)
        at += RECORD.size
        texts = []
        for length in (name, other):
            texts.append(os.fsdecode(data[at : at + length]))
            at += length
        body = data[at : at + size] if op == b"W" else b""
        at += len(body)
        records.append((op.decode(), inode, offset, body, *texts))
    return records


def power_cuts(stage: Stage, row: Row, share: float = 1) -> None:
    """Twenty made-up disks after every call of the log."""
    records = record(stage)
    chance = random.Random(1)
    disk = Disk()
    for at, one in enumerate(records):
        disk.apply(*one)
        for number in range(max(1, round(20 * share))):
            stage.reset()
            disk.write_image(chance)
            row.add(stage.judge(disk.acknowledged), f"cut after call {at}, image {number}")
