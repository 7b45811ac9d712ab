"""The small extraction that is tortured, the forked processes it runs in, and the judge of what is left."""

import ctypes
import functools
import hashlib
import json
import mmap
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import numpy as np

from twostage.cache import structure as cache_structure
from twostage.cache import writer as cache_writer
from twostage.cache.identity import Identity
from twostage.cache.reader import open_cache
from twostage.cache.writer import CacheWriter
from twostage.errors import BadInput

OFF, COUNT, KILL, TORN, SHORT, FAIL, FAIL_ON = range(7)
N, D, WINDOW = 337, 8, 128  # three windows of whole pages, the last one short
PUBLISHED = 4  # after the acknowledgements 1, 2, 3 of the windows
NAME = "news-bert-0000.h5"
HUNG_SECONDS = 60


def make_identity(documents: int = N, *, max_length: int = 64, labels_from: int = 0) -> Identity:
    """Documents 0..N-1 with real text digests, odd names included."""
    rows = range(documents)
    digest = [hashlib.sha256(b"text %d" % row).digest() for row in rows]
    encoder = {
        "weights": "a" * 64,
        "config": "b" * 64,
        "tokenizer": "c" * 64,
        "max_length": max_length,
        "truncation": "head",
        "pooling": "cls",
        "compute_dtype": "float32",
        "format": 1,
    }
    return Identity(
        encoder,
        "float16",
        D,
        ["体育", "", "a\0b", "lone \ud800"],
        np.frombuffer(b"".join(digest), np.uint8).reshape(-1, 32),
        [(row + labels_from) % 4 for row in rows],
        [row % 3 for row in rows],
        [f"体育/{row}.txt" + "\udcff" * (row % 5 == 0) for row in rows],
    )


def make_vectors(identity: Identity) -> np.ndarray:
    """(N, D) float32 that follow from the text alone."""
    return (identity.digest[:, :D].astype(np.float32) - 128) / 16


def token_counts(identity: Identity) -> np.ndarray:
    return identity.digest[:, D].astype(np.int32)


def extract(path: Path, identity: Identity, acknowledge=lambda n: None, pause: float = 0) -> None:
    """What extract.py does with a cache, without an encoder."""
    vectors, counts = make_vectors(identity), token_counts(identity)
    with CacheWriter(path, identity) as writer:
        for number, first in enumerate(range(0, len(vectors), WINDOW), 1):
            window = slice(first, first + WINDOW)
            if not writer.done[window].all():
                writer.commit(first, vectors[window], counts[window], counts[window] > 99)
            acknowledge(number)
            time.sleep(pause)
        writer.publish()
        acknowledge(PUBLISHED)


class Stage:
    """A folder to torture in, the finished file as it must be, and the preloaded shim."""

    def __init__(self):
        memory = Path("/dev/shm")
        self.root = Path(tempfile.mkdtemp(prefix="twostage-", dir=memory if os.access(memory, os.W_OK) else None))
        self.folder = self.root / "cache"
        self.path = self.folder / NAME
        self.partial = self.folder / f"{NAME}.partial"
        self.identity = make_identity()
        self.expected = make_vectors(self.identity).astype(np.float16)
        self.progress = mmap.mmap(-1, 1)
        self.shim = ctypes.CDLL(None)
        self.shim.faults_arm.argtypes = [ctypes.c_char_p, *[ctypes.c_int] * 5, ctypes.c_uint64]
        # a pure function of the identity, and half the time of so small a run: worked out once, before all forks
        cache_structure.build = cache_writer.build = functools.cache(cache_structure.build)
        self.reset()
        extract(self.path, self.identity)
        self.reference = self.path.read_bytes()
        self.reset()
        self.drop = 0  # fsyncs left out, to prove that this harness notices

    def close(self) -> None:
        shutil.rmtree(self.root)

    def reset(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.progress[0] = 0

    def run_writer(self, mode: int = OFF, at: int = -1, error: int = 0, reads: bool = False, log: int = -1) -> str:
        """An extraction in a process of its own -> "done", "killed", "refused: ...", or what else happened."""

        def work() -> str:
            self.shim.faults_arm(os.fsencode(self.folder), mode, at, error, reads, log, self.drop)
            try:
                extract(self.path, self.identity, self._acknowledge)
            except BadInput as refused:
                return f"refused: {refused}"
            finally:
                self.points = self.shim.faults_points()
                self.shim.faults_arm(b"", OFF, 0, 0, 0, -1, 0)
            return f"done {self.points}"

        return in_child(work)

    def _acknowledge(self, n: int) -> None:
        self.progress[0] = max(self.progress[0], n)
        self.shim.faults_mark(n)

    def count_points(self, reads: bool = False) -> int:
        """How many points an undisturbed run from the present state has."""
        return int(self.run_writer(COUNT, reads=reads).split()[1])

    def judge(self, acknowledged: int | None = None) -> str:
        """ "ok", or what is wrong: a published file must be whole and right, committed windows kept, and a rerun must
        end in the same bytes as an undisturbed run with nothing left beside it. "wrong ..." is silently wrong."""
        acknowledged = self.progress[0] if acknowledged is None else acknowledged
        return in_child(lambda: self._judge(acknowledged))

    def _judge(self, acknowledged: int) -> str:
        if self.path.exists():
            verdict = self.read_verdict()
            if verdict != "right":
                return f"published file {verdict}"
        elif acknowledged == PUBLISHED:
            return "lost: the published file"
        with CacheWriter(self.path, self.identity) as writer:
            if not writer.done[: acknowledged * WINDOW].all():
                return f"lost: committed windows, {int(writer.done.sum())} rows left of {acknowledged} windows"
        extract(self.path, self.identity)
        if self.path.read_bytes() != self.reference:
            return "wrong bytes after the rerun"
        left = sorted(path.name for path in self.folder.iterdir() if path != self.path)
        return f"left behind: {left}" if left else "ok"

    def read_verdict(self) -> str:
        """ "right", "refused: ..." or "wrong" for what a reader makes of the file."""
        try:
            with open_cache(self.path) as cache:
                vectors = cache.vectors()
                same = (
                    np.array_equal(vectors, self.expected)
                    and cache.sources == self.identity.sources
                    and cache.label_names == self.identity.label_names
                    and np.array_equal(cache.label, self.identity.label)
                    and np.array_equal(cache.split_of, self.identity.split)
                    and np.array_equal(cache.digest, self.identity.digest)
                    and np.array_equal(cache.token_count, token_counts(self.identity))
                    and np.array_equal(cache.truncated, token_counts(self.identity) > 99)
                    and cache.encoder == self.identity.encoder
                )
        except BadInput as refused:
            return f"refused: {refused}"
        return "right" if same else "wrong"


def in_child(work) -> str:
    """The string that work() returns in a forked process; "killed", "crashed ...", "raised ..." or "hung" otherwise."""
    out, into = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(out)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 2)
            signal.alarm(HUNG_SECONDS)
            try:
                answer = work()
            except BaseException as error:  # noqa: B036 whatever it is, the parent must hear of it
                answer = f"raised {type(error).__name__}: {error}"
            os.write(into, json.dumps(answer).encode()[:60000])
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        data = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if data:
        return json.loads(data)
    return {-signal.SIGKILL: "killed", -signal.SIGALRM: "hung"}.get(status, f"crashed with status {status}")
