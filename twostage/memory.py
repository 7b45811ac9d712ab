"""How much memory a device has left, the most that a stretch of work took, and matrices that a thread uses again and again."""

from __future__ import annotations

import contextlib
import ctypes
import math
import resource
import threading
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING

from twostage import ranks

if TYPE_CHECKING:
    import torch

OUT_OF_MEMORY = (
    "not enough memory", "can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip


def keep_freed_memory() -> bool:
    """Have glibc keep what this process frees, for all its threads in one arena; whether it will. Call it before torch is loaded.

    A thread's own arena gives whole heaps back and takes them again: a fifth of an extraction can go by in page faults.
    """
    arena_max, trim_threshold, mmap_threshold = -8, -1, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return all(mallopt(name, value) for name, value in ((arena_max, 1), (mmap_threshold, 1 << 25), (trim_threshold, 1 << 30)))


class Rooms(threading.local):
    """Fresh memory for a large matrix costs a page fault each 4 KiB, each time: a thread that needs one again and again has it here."""

    def __call__(self, name: Hashable, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """This thread's matrix of that name, with whatever stands in it: gone when the name is asked for again."""
        flat, last = self.__dict__.get(name, (None, None))
        if last is None or last.shape != shape or last.dtype != dtype:
            import torch

            numbers = math.prod(shape)
            with torch.inference_mode(False):
                if flat is None or flat.dtype != dtype or len(flat) < numbers:
                    flat = torch.empty(numbers, dtype=dtype)
                last = flat[:numbers].view(shape)
            self.__dict__[name] = flat, last
        return last


room = Rooms()


def reset_peak(device: torch.device) -> None:
    """Begin to measure anew: the allocator's peak on a GPU; on the CPU the process's, where Linux lets it be reset."""
    if device.type == "cuda":
        import torch

        torch.cuda.init()  # which the line below does not do by itself
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int:
    """The most memory in use since reset_peak: what tensors took on a GPU, the whole process on the CPU."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    return process_peak_bytes()


def process_peak_bytes() -> int:
    """Highest resident memory of this process. getrusage alone would count what its parent held when it started it."""
    return _proc("/proc/self/status", "VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def available_bytes(device: torch.device) -> int | None:
    """Memory that could still be taken; None where nobody says. On the CPU the least of the machine, the cgroup and ulimit -v."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    limits = [_proc("/proc/meminfo", "MemAvailable")]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    ceiling, _ = resource.getrlimit(resource.RLIMIT_AS)
    if ceiling != resource.RLIM_INFINITY:
        limits.append(ceiling - (_proc("/proc/self/status", "VmSize") or 0))
    known = [limit for limit in limits if limit is not None]
    return max(0, min(known)) // ranks.local_size() if known else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is CUDA's, or the CPU allocator's, way to say that memory ran out."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY)


def _proc(file: str, name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(file).read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return None
