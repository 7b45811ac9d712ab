"""Memory: whose it is, and how much."""

import platform
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def test_the_peak_of_a_process_is_its_own_and_not_what_its_parent_held():
    big = b"x" * 600_000_000
    words = "from twostage.memory import process_peak_bytes; print(process_peak_bytes())"
    told = subprocess.run(
        [sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert 1_000_000 < int(told) < 300_000_000 < len(big)


ARENAS = """
import ctypes, threading
from twostage.memory import keep_freed_memory
if KEEP:
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
threads = [threading.Thread(target=libc.malloc, args=(100_000,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("keep", [True, False])
def test_threads_take_memory_from_one_arena_where_freed_memory_is_kept(keep):
    words = ARENAS.replace("KEEP", str(keep))
    told = subprocess.run(
        [sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stderr
    assert "Arena 0" in told and ("Arena 1" not in told) == keep
