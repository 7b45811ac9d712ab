"""Memory: whose it is, and how much."""

import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.conftest import ROOT
from twostage.memory import Rooms


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


def test_a_room_keeps_its_memory_while_a_matrix_fits_and_takes_its_shape_and_dtype():
    room = Rooms()
    first = room("one", (3, 4), torch.float32)
    assert room("one", (3, 4), torch.float32) is first
    for shape in ((4, 3), (2, 5)):
        assert room("one", shape, torch.float32).shape == shape
        assert room("one", shape, torch.float32).data_ptr() == first.data_ptr()
    for shape, dtype in (((5, 4), torch.float32), ((2, 2), torch.bfloat16)):
        matrix = room("one", shape, dtype).fill_(1)
        assert (matrix.shape, matrix.dtype) == (shape, dtype) and first.data_ptr() != matrix.data_ptr()
    assert room("two", (3, 4), torch.float32).data_ptr() != first.data_ptr()


def test_each_thread_has_rooms_of_its_own_and_may_train_in_one_that_was_made_for_inference():
    room = Rooms()
    with torch.inference_mode():
        mine = room("one", (2, 2), torch.float32)
    assert not mine.is_inference()
    with ThreadPoolExecutor(1) as other:
        assert other.submit(room, "one", (2, 2), torch.float32).result().data_ptr() != mine.data_ptr()
