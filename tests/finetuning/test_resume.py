"""A fine-tuning run that is killed, at any moment and as often as one likes, ends with the weights of one that was not."""

import inspect
import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from tests import forked
from tests.conftest import make_bert, make_tree

# Real processes and real SIGKILLs.
SETTINGS = ["--max-length", 48, "--batch-size", 16, "--epochs", 2, "--lr-scale", 100, "--micro-batch", 4]


def child(argv: list[str], log: str, largest_file: int | None = None) -> None:
    if largest_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    sys.argv = ["finetune.py"]
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    import torch

    import finetune
    from twostage import cli

    torch.set_num_threads(1)
    status = cli.run(finetune.main, argv)
    sys.stdout.flush()
    os._exit(status)


def wait_for(condition, process, seconds: float = 120) -> None:
    """Every wait has a bound, and says what it waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"waited {seconds} s for {inspect.getsource(condition).strip()}")
        time.sleep(0.001)


def ended(process) -> None:
    process.join(120)
    if process.is_alive():
        process.kill()
        raise AssertionError("waited 120 s for a process to end")


class Folder:
    """A runs folder in which fine-tuning of one tiny corpus is started, killed and resumed."""

    def __init__(self, base: Path, bert: Path, tree: Path):
        self.base, self.runs, self.run = base, base / "runs", base / "runs" / "B4C3-x100"
        self.argv = [tree, "--model", bert, "--runs-dir", self.runs, "--device", "cpu", "--dtype", "float32", *SETTINGS]
        self.base.mkdir()

    def words(self, *more) -> list[str]:
        return [str(one) for one in [*self.argv, *more]]

    def start(self, *more):
        started = forked.process(child, self.words(*more), str(self.base / "log"))
        started.start()
        return started

    def finish(self, *more) -> int:
        process = self.start(*more)
        ended(process)
        return process.exitcode

    def kill_when(self, condition, *more) -> bool:
        """Start, send SIGKILL as soon as `condition(run folder)` holds; whether it was killed before it ended."""
        process = self.start(*more)
        wait_for(lambda: not process.is_alive() or condition(self.run), process)
        process.kill()
        ended(process)
        return process.exitcode == -9

    @property
    def log(self) -> str:
        return (self.base / "log").read_text()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    base = tmp_path_factory.mktemp("resume")
    return make_bert(base / "bert"), make_tree(base / "news", per_class=30)  # with BERT's dropout of 0.1


@pytest.fixture(scope="module")
def uninterrupted(parts, tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("whole") / "a", *parts)
    assert folder.finish() == 0, folder.log
    return folder


def same_result(one: Path, other: Path, tidy: bool = True) -> None:
    for name in ("model/model.safetensors", "predictions.npz"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("metrics.jsonl",):
        lines = [[json.loads(line) for line in (run / name).read_text().splitlines()] for run in (one, other)]
        for line in lines[0] + lines[1]:
            del line["seconds"]
            line["train_loss"] = pytest.approx(line["train_loss"], abs=1e-9)
        assert lines[0] == lines[1]
    assert not list(other.glob(".*.partial"))
    assert not tidy or not list(other.glob("checkpoints*"))


def whole_checkpoint(step: int):
    return lambda run: (run / "checkpoints" / f"checkpoint-{step}" / "complete.json").exists()


MOMENTS = {
    "before the first checkpoint": lambda run: (run / "run.json").exists(),
    "while a checkpoint is written": lambda run: (run / "checkpoints" / "checkpoint-2").exists(),
    "in the middle of an epoch": whole_checkpoint(3),
    "when the best weights are renamed": lambda run: any(run.glob("checkpoints/best-1.safetensors")),
    "in the second epoch": whole_checkpoint(8),
    "while the model is written": lambda run: any(run.glob(".model.*.partial")),
    "after the model was written": lambda run: (run / "model").exists(),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed_ends_with_the_same_bits(moment, parts, uninterrupted, tmp_path):
    folder = Folder(tmp_path / "b", *parts)
    folder.kill_when(MOMENTS[moment], "--checkpoint-minutes", 0)
    complete = json.loads((folder.run / "run.json").read_text())["status"] == "complete"
    if not complete:
        assert folder.finish("--resume") == 0, folder.log
    same_result(uninterrupted.run, folder.run, tidy=not complete)  # a kill may come between the last two steps
    assert [path.name for path in folder.runs.iterdir() if path.is_dir()] == ["B4C3-x100"]


def test_killed_again_and_again_it_still_ends_with_the_same_bits(parts, uninterrupted, tmp_path):
    folder = Folder(tmp_path / "b", *parts)
    assert folder.kill_when(whole_checkpoint(2), "--checkpoint-minutes", 0)
    for step in (4, 8):
        folder.kill_when(whole_checkpoint(step), "--checkpoint-minutes", 0, "--resume")
    assert folder.finish("--resume") == 0, folder.log
    same_result(uninterrupted.run, folder.run)


def test_ctrl_c_exits_with_130_and_can_be_resumed(parts, uninterrupted, tmp_path):
    folder = Folder(tmp_path / "b", *parts)
    process = folder.start("--checkpoint-minutes", 0)
    wait_for(lambda: whole_checkpoint(2)(folder.run), process)
    os.kill(process.pid, signal.SIGINT)
    ended(process)
    assert process.exitcode == 130
    assert "Traceback" not in folder.log
    assert json.loads((folder.run / "run.json").read_text())["status"] == "interrupted"
    assert folder.finish("--resume") == 0, folder.log
    same_result(uninterrupted.run, folder.run)


def test_a_full_disk_is_said_in_a_line_and_the_run_can_be_resumed(parts, uninterrupted, tmp_path):
    folder = Folder(tmp_path / "b", *parts)
    limit = 100_000  # bytes a file: less than the weights
    process = forked.process(child, folder.words(), str(folder.base / "log"), limit)
    process.start()
    ended(process)
    assert process.exitcode == 2
    assert json.loads((folder.run / "run.json").read_text())["status"] == "failed"
    assert "could not write" not in folder.log.strip().split("\n")[-1]
    assert "free some disk space, then continue with --resume" in folder.log
    assert "Traceback" not in folder.log
    assert folder.finish("--resume") == 0, folder.log
    same_result(uninterrupted.run, folder.run)


def test_a_half_written_checkpoint_is_named_and_skipped(parts, uninterrupted, tmp_path):
    folder = Folder(tmp_path / "b", *parts)
    assert folder.kill_when(whole_checkpoint(3), "--checkpoint-minutes", 0)
    newest = max((folder.run / "checkpoints").glob("checkpoint-*/complete.json"), key=os.path.getmtime).parent
    later = newest.with_name("checkpoint-900")
    later.mkdir()
    (later / "model.safetensors").write_bytes((newest / "model.safetensors").read_bytes()[:1000])
    assert folder.finish("--resume") == 0
    assert "checkpoint-900 is half-written or damaged: skipped" in folder.log
    same_result(uninterrupted.run, folder.run)


def test_a_damaged_checkpoint_is_not_gone_on_with(parts, uninterrupted, tmp_path):
    folder = Folder(tmp_path / "b", *parts)
    assert folder.kill_when(whole_checkpoint(4), "--checkpoint-minutes", 0)
    for file in (folder.run / "checkpoints").glob("checkpoint-*/optimizer.pt"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    assert folder.finish("--resume") == 0, folder.log
    same_result(uninterrupted.run, folder.run)


@pytest.mark.parametrize("damage", ["", "{", None])
def test_a_whole_checkpoint_is_found_though_run_json_is_damaged_or_gone(damage, parts, uninterrupted, tmp_path):
    folder = Folder(tmp_path / "b", *parts)
    assert folder.kill_when(whole_checkpoint(4), "--checkpoint-minutes", 0)
    if damage is None:
        (folder.run / "run.json").unlink()
    else:
        (folder.run / "run.json").write_text(damage)
    assert folder.finish("--resume") == 0, folder.log
    assert "continuing from step" in folder.log
    same_result(uninterrupted.run, folder.run)


def test_what_a_kill_just_after_complete_left_undone_is_done_by_resume(parts, uninterrupted, tmp_path):
    folder = Folder(tmp_path / "b", *parts)
    shutil.copytree(uninterrupted.runs, folder.runs)
    (folder.run / "checkpoints" / "checkpoint-10").mkdir(parents=True)
    (folder.run / "model" / ".README.md.999999.partial").write_text("half a card")
    (folder.runs / "report.html").unlink()
    record = json.loads((folder.run / "run.json").read_text())
    del record["against_frozen"]
    (folder.run / "run.json").write_text(json.dumps(record))
    assert folder.finish("--resume") == 0, folder.log
    assert "run: " in folder.log and (folder.runs / "report.html").exists()
    assert "against_frozen" in json.loads((folder.run / "run.json").read_text())
    same_result(uninterrupted.run, folder.run)
    assert not (folder.run / "model" / ".README.md.999999.partial").exists()
    assert folder.finish("--resume") == 2 and "nothing to resume" in folder.log


def test_other_settings_are_refused_by_name(parts, tmp_path):
    folder = Folder(tmp_path / "b", *parts)
    assert folder.kill_when(whole_checkpoint(2), "--checkpoint-minutes", 0)
    assert folder.finish("--resume", "--seed", 7, "--max-length", 32) == 2
    last = folder.log.strip().split("\n")[-1]
    assert "seed: run 0, asked 7" in last
    assert "max_length: run 48, asked 32" in last
    assert "Traceback" not in folder.log


def test_without_an_incomplete_run_there_is_nothing_to_resume(uninterrupted, parts, tmp_path):
    assert uninterrupted.finish("--resume") == 2
    assert "nothing to resume" in uninterrupted.log
    empty = Folder(tmp_path / "b", *parts)
    assert empty.finish("--resume") == 2
    assert "nothing to resume" in empty.log
    assert not empty.runs.exists()
    young = empty.runs / ".B4C3-x100.999999.partial"  # killed before the run had its name: gone on with, it would be swept away
    shutil.copytree(uninterrupted.run, young)
    (young / "run.json").write_text((young / "run.json").read_text().replace('"complete"', '"running"'))
    assert empty.finish("--resume") == 2
    assert empty.log.count("nothing to resume") == 2


def test_a_run_that_is_still_being_trained_is_left_alone(parts, tmp_path):
    folder = Folder(tmp_path / "b", *parts)
    process = folder.start("--epochs", 200)
    wait_for(lambda: (folder.run / "checkpoints").exists(), process)
    assert folder.finish("--resume", "--epochs", 200) == 2
    assert "is writing it; wait for it" in folder.log
    process.kill()
    ended(process)
