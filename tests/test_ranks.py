"""Several ranks under torchrun's agent: the same bytes as one process, and a line and whole windows when one fails."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

import extract
from tests.conftest import expect_refusal, make_bert, make_tree, run_script
from tests.torchrun import BOUND, DIFFERENT, Ranks, ended, refused_by_rank_1, torchrun, two_machines

# Before extract.py begins: pages for windows, and what may go wrong.
DRIVER = """
import os, signal, sys, time
from twostage.cache.writer import CacheWriter
from twostage.corpus import again
from twostage.corpus.reader import Corpus
from twostage.extraction import pipeline, windows
windows.WINDOW_SECONDS, pipeline.READ_ROWS = 0, 16
rank, windows_done, reads = int(os.environ.get("RANK", "0")), [], []
def after_windows(number, act):
    real = CacheWriter.commit
    def commit(self, *window):
        real(self, *window)
        windows_done.append(1)
        len(windows_done) == number and act()
    CacheWriter.commit = commit
def at_part(number, act):
    for kind in (Corpus, again.Elsewhere):
        def texts(self, rows, real=kind.texts):
            if len(rows) <= 16:
                reads.append(1)
                len(reads) >= number and act()
            return real(self, rows)
        kind.texts = texts
def kill(pid, sign=signal.SIGKILL):
    os.kill(pid, sign)
    time.sleep(60)
def slowly():
    time.sleep(0.2)
def mark(path):
    open(path, "w").close()
"""
SCRIPT = "\nimport extract\nfrom twostage.cli import run\nsys.exit(run(extract.main, several=True))\n"


class Place:
    """A corpus, a model and what is left of runs of extract.py over them."""

    def __init__(self, base: Path):
        self.base, self.bert = base, make_bert(base / "bert")
        self.news = make_tree(base / "news", per_class=300, seed=5)
        files = sorted(self.news.glob("*/*.txt"))
        for a, b in zip(files[:20], files[-20:], strict=True):
            b.write_bytes(a.read_bytes())

    def words(self, cache: str) -> list[str]:
        words = ["news", "--model", "bert", "--max-length", 64, "--device", "cpu", "--dtype", "float32"]
        return [str(word) for word in [*words, "--cache-dir", self.base / cache]]

    def alone(self, cache: str, monkeypatch) -> bytes:
        """The cache after one process has finished it, or made it."""
        monkeypatch.chdir(self.base)
        assert extract.main(self.words(cache)) == 0
        return self.file(cache)

    def start(self, ranks: int, cache: str, trouble: str = "", where="", *more) -> Ranks:
        """where: Python for the folder in which a rank starts, relative to the base."""
        go = f"\nos.chdir(os.path.join({str(self.base)!r}, {where or repr('')}))\n"
        return Ranks(ranks, "extract", [*self.words(cache), *more], self.base, DRIVER + go + trouble)

    def file(self, cache: str) -> bytes:
        (path,) = (self.base / cache).glob("*.h5")
        return path.read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("ranks"))
    with pytest.MonkeyPatch.context() as patch:
        place.whole = place.alone("alone", patch)
    return place


def test_rank_0_killed_and_gone_on_with_by_more_ranks_one_of_them_slow_gives_the_same_bytes(place):
    ranks = place.start(3, "killed", "rank == 0 and after_windows(3, lambda: kill(os.getpid()))")
    status, out, log = ranks.ended()
    assert status != 0
    assert ranks.seconds < BOUND / 2
    assert out == ""
    assert "Traceback" not in log
    status, out, log = place.start(4, "killed", "rank == 1 and at_part(1, slowly)").ended()
    assert status == 0, log
    assert out.count("\n") == 1
    assert "committed before" in log
    assert "by 4 ranks" in log
    assert log.count("certificate:") == 1
    assert place.file("killed") == place.whole


def test_a_rank_that_is_killed_is_named_in_a_line_and_whole_windows_are_kept(place, monkeypatch):
    status, out, log = place.start(2, "gone", "at_part(3, lambda: kill(os.getpid()) if rank else slowly())").ended()
    assert status != 0
    assert out == ""
    said = [line for line in log.split("\n") if "is gone" in line]
    assert len(said) == 1
    assert "rank 1" in said[0]
    assert "run the same command again" in said[0]
    assert "Traceback" not in log
    assert place.alone("gone", monkeypatch) == place.whole


def test_several_views_by_two_ranks_have_the_bytes_that_each_has_alone(place, monkeypatch):
    views = ["--pooling", "mean", "cls", "--layer", "-2", "-1"]
    status, out, log = place.start(2, "views", "", "", *views).ended()
    assert status == 0, log
    paths = [Path(line) for line in out.split()]
    assert len(paths) == 4 and paths[3].read_bytes() == place.whole
    monkeypatch.chdir(place.base)
    assert extract.main([*place.words("one view"), "--pooling", "mean", "--layer", "-2"]) == 0
    assert paths[0].read_bytes() == place.file("one view")


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_corpus_or_model_that_differs_on_one_machine_is_a_line_from_rank_0(what, place, tmp_path):
    where = two_machines(place.base, tmp_path, what)
    said = refused_by_rank_1(place.start(2, f"differs {what}", "at_part(1, slowly)", where), what)
    assert {"news": "not as rank 0 has read it", "bert": "not rank 0's weights"}.get(what, "") in said


def test_another_machine_has_the_corpus_and_the_model_in_a_place_of_its_own_and_need_not_see_the_cache_folder(place, tmp_path):
    where = two_machines(place.base, tmp_path, "")
    status, out, log = place.start(2, "", "", where, "--cache-dir", "cache").ended()
    assert status == 0, log
    assert (tmp_path / "0" / out.strip()).read_bytes() == place.whole
    assert not (tmp_path / "1" / "cache").exists()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_keeps_whole_windows_and_is_said_once(sign, place, monkeypatch):
    cache = sign.name
    written = place.base / f"two windows are written before {cache}"
    trouble = f"at_part(1, slowly)\nrank or after_windows(2, lambda: mark({str(written)!r}))"
    if sign == signal.SIGTERM:  # torchrun itself
        driver = place.base / "driver.py"
        driver.write_text(f"{DRIVER}os.chdir({str(place.base)!r})\n{trouble}{SCRIPT}", encoding="utf-8")
        process = torchrun(2, driver, *place.words(cache))
    else:
        process = place.start(2, cache, trouble)
    end = time.monotonic() + BOUND
    while not written.exists() and time.monotonic() < end:
        time.sleep(0.02)
    began = time.monotonic()
    process.send_signal(sign)
    status, out, log = ended(process) if isinstance(process, subprocess.Popen) else process.ended()
    assert status != 0
    assert time.monotonic() - began < 30
    assert out == ""
    assert log.count("documents are kept") == 1
    assert log.count(".py: interrupted") == 1
    assert "Traceback" not in log
    assert place.alone(cache, monkeypatch) == place.whole


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK"])
def test_an_environment_that_says_no_number_is_refused_in_a_line(name, tmp_path):
    result = run_script("extract.py", tmp_path, **{"WORLD_SIZE": "2", "RANK": "0", name: "two"})
    expect_refusal(result, name, "not a whole number")


def test_of_many_processes_one_trains_heads_and_the_others_leave_at_once(tmp_path):
    other = run_script("train_head.py", tmp_path / "absent.h5", WORLD_SIZE="2", RANK="1")
    assert (other.returncode, other.stdout, other.stderr) == (0, "", "")
    first = run_script("train_head.py", tmp_path / "absent.h5", WORLD_SIZE="2", RANK="0")
    assert first.returncode == 2
    assert "works in a single process" in first.stderr
    assert "absent.h5" in first.stderr


def test_a_command_line_that_is_wrong_is_said_by_rank_0_alone(tmp_path):
    words = ("extract.py", tmp_path, "--pooling", "none")
    said = [run_script(*words, WORLD_SIZE="2", RANK=str(rank)).stderr.count("invalid choice") for rank in (0, 1)]
    assert said == [1, 0]
