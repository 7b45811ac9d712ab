"""How everything is written: a trace of the calls, and what is left when one of them fails or the process is killed."""

import errno
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from tests.report.test_report import make_run
from twostage import files
from twostage.cache.reader import write_facts
from twostage.errors import BadInput
from twostage.models.head import build_head, save_head
from twostage.report.build import write_report
from twostage.runs.folder import create_run
from twostage.runs.scores import save_predictions


class Trace:
    """The calls that make and remove names, and fsyncs, in order. Names are relative to `folder`; partials by their target."""

    def __init__(self, folder: Path, monkeypatch):
        self.folder, self.calls = folder, []
        for name in ("replace", "rename", "unlink", "rmdir"):
            monkeypatch.setattr(os, name, self.noted(name, getattr(os, name)))
        real, rmtree = os.fsync, files.shutil.rmtree

        def fsync(handle):
            self.calls.append(("fsync", self.short(os.readlink(f"/proc/self/fd/{handle}"))))
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(
            files.shutil, "rmtree", lambda path, **kw: (self.calls.append(("remove", self.short(path))), rmtree(path, **kw))
        )

    def noted(self, name, real):
        def call(*paths, **more):
            self.calls.append(("rename" if name == "replace" else name, *map(self.short, paths)))
            return real(*paths, **more)

        return call

    def short(self, path) -> str:
        return str(Path(os.fsdecode(path)).relative_to(self.folder)) if str(path).startswith(str(self.folder)) else str(path)

    def check_durable(self, *targets: str) -> None:
        """Each target came by a rename; what was renamed was fsynced before, and the folder after, before anything was removed."""
        for target in targets:
            at, young = next((i, call[1]) for i, call in enumerate(self.calls) if call[0] == "rename" and call[2] == target)
            parent = str(Path(target).parent)
            after = next(i for i, call in enumerate(self.calls) if i > at and call == ("fsync", parent))
            assert ("fsync", young) in self.calls[:at], self.calls
            written = [c[1] for c in self.calls[:at] if c[0] == "rename" and c[2].startswith(f"{young}/")]
            assert all(("fsync", name) in self.calls[:at] for name in written), self.calls
            removed = [c for c in self.calls[at:after] if c[0] in ("remove", "unlink", "rmdir")]
            assert not removed, removed


@pytest.fixture
def trace(tmp_path, monkeypatch):
    return Trace(tmp_path, monkeypatch)


def test_whatever_a_run_leaves_is_on_the_disk_before_anything_relies_on_it(tmp_path, trace):
    run = create_run(tmp_path, "1C3", {})
    trace.check_durable("1C3")
    save_predictions(run.path, np.zeros((2, 32), np.uint8), np.zeros(2, int), np.full((2, 2), 0.5))
    save_head(run.path / "head", build_head("1C", 4, 2), {"head": "1C"})
    run.finish()
    write_facts(tmp_path / "x.h5", {})
    trace.check_durable("1C3/predictions.npz", "1C3/head", "1C3/run.json", "x.h5.json")
    assert trace.calls.index(("fsync", "1C3")) < max(i for i, c in enumerate(trace.calls) if c[-1] == "1C3/run.json")


def test_the_report_and_the_table_are_on_the_disk(tmp_path, trace):
    make_run(tmp_path, "1C3", recipe="1C3")
    write_report(tmp_path)
    trace.check_durable("report.html", "results.csv", "1C3/run.json")


def test_a_folder_is_replaced_and_the_old_one_goes_last(tmp_path, trace):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    with files.replacing_folder(tmp_path / "model") as partial:
        files.write_text(partial / "a", "a")
        (partial / "sub").mkdir()
        (partial / "sub" / "b").write_text("b")
    trace.check_durable("model")
    assert ("fsync", str(files.partial_of(tmp_path / "model").relative_to(tmp_path) / "sub" / "b")) in trace.calls
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["a", "sub"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def fails_at(number: int, monkeypatch) -> None:
    """Let the n-th call of those that the disk can refuse fail."""
    seen = []
    for name in ("open", "fsync", "replace", "rename", "mkdir"):
        real = getattr(os, name)

        def call(*args, real=real, **more):
            seen.append(real)
            if len(seen) == number + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **more)

        monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("number", range(12))
def test_whichever_call_fails_the_old_stays_and_nothing_is_left_beside_it(tmp_path, monkeypatch, number):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    with monkeypatch.context() as patch:
        fails_at(number, patch)
        failed = []
        for work in (lambda: files.write_text(tmp_path / "file", "new"), lambda: fill(tmp_path / "folder")):
            try:
                work()
            except OSError as error:
                failed.append(error.errno)
    assert failed in ([], [errno.ENOSPC])
    assert (tmp_path / "file").read_text() in ("old", "new")
    assert [path.read_text() for path in (tmp_path / "folder").iterdir()] in (["old"], ["new"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def fill(folder: Path) -> None:
    with files.replacing_folder(folder) as partial:
        (partial / "new").write_text("new")


def test_tensors_that_do_not_fit_on_the_disk_are_an_error_of_the_disk(tmp_path):
    code = (
        "import resource, signal, sys, torch; from pathlib import Path; from twostage import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: files.write_tensors(Path(sys.argv[1]), {'a': torch.zeros(9999)})\n"
        "except OSError as error: print(error.errno)"
    )
    said = subprocess.run([sys.executable, "-c", code, tmp_path / "x"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert said.stdout.strip() == str(errno.EFBIG), said.stderr
    assert not list(tmp_path.iterdir())
    files.write_tensors(tmp_path / "x", {"a": torch.zeros(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_the_litter_of_the_dead_is_swept_and_the_living_are_left_alone(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(60)
    mine = files.partial_of(tmp_path / "report.html")
    litter = [mine.with_name(mine.name.replace(f".{os.getpid()}@", f".{dead.pid}@")), tmp_path / f".results.{dead.pid}.partial"]
    foreign = tmp_path / ".report.html.1@elsewhere.partial"
    old_foreign = tmp_path / ".1C3.1@elsewhere.partial"
    for path in (mine, *litter, foreign):
        path.write_text("half")
    old_foreign.mkdir()
    os.utime(old_foreign, (time.time() - 90_000,) * 2)
    (tmp_path / ".partial").write_text("a user's own")
    files.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, foreign.name, ".partial"}


def test_a_folder_that_was_about_to_be_replaced_is_put_back(tmp_path):
    name = files.partial_of(tmp_path / f"model{files.OLD}").name.replace(f".{os.getpid()}@", ".999999999@")
    (tmp_path / name).mkdir()
    (tmp_path / name / "old").write_text("old")
    files.sweep(tmp_path)
    assert (tmp_path / "model" / "old").read_text() == "old"


def hold(path: Path, held) -> None:
    lock = files.take_lock(path, path, "--runs-dir")
    held.set()
    time.sleep(60)
    files.release_lock(lock)


def test_a_lock_names_its_holder_and_ends_with_it_however_that_ends(tmp_path):
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "lock", held))
    process.start()
    assert held.wait(60)
    with pytest.raises(
        BadInput, match=rf"lock: process {process.pid} on .* \(since 20.*is writing it; wait for it, or stop it"
    ):
        files.take_lock(tmp_path / "lock", tmp_path / "lock", "--runs-dir")
    process.kill()
    process.join(60)
    files.release_lock(files.take_lock(tmp_path / "lock", tmp_path / "lock", "--runs-dir"))
    assert not list(tmp_path.iterdir())
