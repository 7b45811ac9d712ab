"""Several ranks started by torchrun, or by its agent out of a process that has imported everything; every wait bounded."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests import forked
from tests.conftest import ROOT, make_bert

BOUND = 180  # seconds that any run here may take on a slow machine


def torchrun(ranks: int, *words) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return subprocess.Popen(
        [*command, *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit status, standard output, and what our ranks said on standard error: torchrun's own report is its own."""
    try:
        out, log = process.communicate(timeout=BOUND)
    except subprocess.TimeoutExpired:
        kill_all(process.pid)
        raise
    return process.returncode, out, re.split(r'Traceback .*\n  File "<frozen runpy>', log)[0]


def kill_all(agent: int) -> None:
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    for pid in [*map(int, children), agent]:  # each rank is in a session of its own
        os.kill(pid, signal.SIGKILL)


class Ranks:
    """Ranks that torchrun's agent has started: script(*words) in each, with its environment and its signals.

    script: of the name of a module, in which main(argv) is called. trouble: Python for what is to go wrong, run before it,
    in which `rank` is the rank and `agent` the id of the agent's process: not the parent's, which is the tests' server.
    """

    def __init__(self, ranks: int, script: str, words: list[str], place: Path, trouble: str = ""):
        self.files = [place / f"{name} {time.monotonic_ns()}" for name in ("out", "log")]
        self.began = time.monotonic()
        self.process = forked.process(_agent, ranks, script, words, self.files, trouble)
        self.process.start()

    def send_signal(self, sign: int) -> None:
        os.kill(self.process.pid, sign)

    def ended(self) -> tuple[int, str, str]:
        """As `ended`."""
        self.process.join(BOUND)
        if self.process.is_alive():
            self.process.terminate()  # and the agent its ranks
            raise AssertionError(f"waited {BOUND} s for ranks to end; they said: {self.files[1].read_text()}")
        self.seconds = time.monotonic() - self.began
        return self.process.exitcode, *(file.read_text(encoding="utf-8") for file in self.files)


DIFFERENT = ("news", "bert", "news gone", "bert gone")


def two_machines(base: Path, place: Path, what: str) -> str:
    """Folders 0 and 1 in place with the news and bert of base, but in 1 one of them differs or is gone, or none -> Python for os.chdir."""
    for name in ("0", "1"):
        (place / name).mkdir()
        for part in ("news", "bert"):
            (place / name / part).symlink_to(base / part)
    part = place / "1" / (what or "none").split()[0]
    part.unlink(missing_ok=not what)
    if what == "news":
        shutil.copytree(base / "news", part)
        for file in part.glob("*/*.txt"):
            file.write_text(file.read_text(encoding="utf-8") + "的", encoding="utf-8")
    elif what == "bert":
        make_bert(part, seed=1)
    return f"os.path.join({str(place)!r}, str(rank))"


def refused_by_rank_1(ranks: Ranks, what: str) -> str:
    """Check that rank 0 says in one line, soon, what rank 1 has found; give the line."""
    status, out, log = ranks.ended()
    assert status != 0
    assert out == ""
    said = [line for line in log.split("\n") if line.startswith(("extract.py: ", "finetune.py: "))]
    assert len(said) == 1, log
    assert ": rank 1 on " in said[0], log
    assert ("no such" in said[0]) == what.endswith("gone")
    assert ranks.seconds < BOUND / 2
    assert "Traceback" not in log
    return said[0]


def _agent(ranks: int, script: str, words: list[str], files: list[Path], trouble: str) -> None:
    import logging

    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable()  # the agent's own report
    speak_into(files)
    # Not forked from here: the agent has threads, and a lock that one of them holds (of getaddrinfo, say) is held in a fork for ever.
    forked.use_the_server_that_forked_this()
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, start_method="forkserver", rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0,
        monitor_interval=1,  # rank 0 hears of a rank that is gone before the agent ends it too
    )  # fmt: skip
    try:
        elastic_launch(config, _rank)(script, words, files, trouble, os.getpid())
    except BaseException as error:
        print(f"agent: {type(error).__name__}", file=sys.stderr, flush=True)  # its report is not ours
        os._exit(1)
    os._exit(0)


def speak_into(files: list[Path]) -> None:
    """Let this process's standard output and standard error end up in these files, behind what is there."""
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)


def _rank(script: str, words: list[str], files: list[Path], trouble: str, agent: int) -> None:
    import importlib

    import torch

    from twostage.cli import run

    speak_into(files)
    torch.set_num_threads(1)
    sys.argv = [f"{script}.py"]
    exec(trouble, {"rank": int(os.environ["RANK"]), "agent": agent})
    status = run(importlib.import_module(script).main, words, several=True)
    sys.stdout.flush()
    if status:
        os._exit(status)
