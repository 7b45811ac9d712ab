"""What this processor is, as far as the choice of a kernel goes."""

import functools
import platform
from pathlib import Path

import torch

AVX2, AVX512 = 8, 16  # float32 numbers in a register: lanes
ROWS, WIDE = 6, {AVX2: 2, AVX512: 4}  # so many rows of sums, in so many registers each, fill those of a processor


def is_x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")


@functools.cache
def lanes() -> int:
    """float32 numbers in a register of this processor, as machine code of our own is written for it; 0 where none is."""
    if not is_x86():
        return 0
    return {"AVX2": AVX2, "AVX512": AVX512}.get(torch.backends.cpu.get_cpu_capability(), 0)


def has_avx512() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16."""
    return _supports("_is_avx512_bf16_supported") or has_amx()


def has_float16() -> bool:
    """Whether this processor multiplies in float16."""
    check = getattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", None)
    return bool(check and check())


def has_amx() -> bool:
    return _supports("_is_amx_tile_supported")


def _supports(name: str) -> bool:
    check = getattr(torch.cpu, name, None)
    return bool(check and check())


def made_by_intel() -> bool:
    """Whether MKL takes its AVX-512 path here."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
