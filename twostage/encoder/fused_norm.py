"""Residual, layer norm and rounding in one pass over memory: norm(x + y), as float32 and as the products take it.

Mean and variance of a row are taken one after the other (two passes, the second in the nearest cache), in float32.
"""

import contextlib
import functools
import math

import torch
from torch.nn import functional as F

from twostage.encoder.processor import lanes

SUMS = 4  # of a row at a time: one alone would wait for itself


@functools.cache
def suits(device: str, dtype: torch.dtype, width: int) -> bool:
    """Whether rows of this width are normed by this module here, for products in dtype: tried on a few numbers."""
    if device != "cpu" or dtype not in (torch.float32, torch.bfloat16) or width % 2 or width < (lanes() or math.inf):
        return False
    with contextlib.suppress(ImportError, AttributeError, RuntimeError, TypeError), torch.inference_mode():
        x, y = torch.linspace(-2, 2, 2 * 3 * width).sin().view(2, 3, width)
        norm = torch.linspace(1, 2, width), torch.linspace(-1, 1, width)
        for more in {dtype: y.to(dtype), torch.float32: y}.values():
            right = F.layer_norm(x + more, (width,), *norm, 1e-12)
            got, copy = add_norm(x.clone(), more, norm, 1e-12, dtype)
            if not (torch.allclose(got, right, atol=1e-5) and torch.equal(copy, got.to(dtype))):
                return False
        return True
    return False


def add_norm(
    x: torch.Tensor, y: torch.Tensor, norm, eps: float, dtype: torch.dtype, out=None
) -> tuple[torch.Tensor, torch.Tensor]:
    """norm(x + y) of rows (n, D) with norm's weight and bias (D,): in float32, in out or else in the place of x, and in dtype.

    x, out: float32; y, dtype: float32 or bfloat16. All of them contiguous.
    """
    out, paired, rounds = x if out is None else out, y.dtype != torch.float32, dtype != torch.float32
    copy = torch.empty_like(x, dtype=dtype) if rounds else out
    kernel(x.shape[1], paired, rounds, lanes())(*(part.data_ptr() for part in (x, y, *norm, out, copy)), len(x), eps)
    return out, copy


@functools.cache
def kernel(width: int, paired: bool, rounds: bool, lanes: int):
    """The machine code for rows of this width; paired: y is bfloat16; rounds: the copy is."""
    from twostage.encoder.machine_code import FLOAT, INT, POINTER, Code, Compiled

    pointers = dict.fromkeys(("x", "y", "weight", "bias", "out", "copy"), POINTER)
    code = Code("add_norm", pointers | {"rows": INT, "eps": FLOAT}, lanes)
    given = code.given
    grouped = width // (SUMS * lanes) * SUMS * lanes
    rest = [(place, min(lanes, width - place)) for place in range(grouped, width, lanes)]

    def summed(term):
        """The mean of term(place in the row, only so many lanes, sum so far), a register each, over a row."""
        sums = [code.variable(code.constant(0)) for _ in range(SUMS)]
        with code.loop(0, grouped, SUMS * lanes) as first:
            for i, total in enumerate(sums):
                total.value = term(code.plus(first, i * lanes), 0, total.value)
        for total, (place, only) in zip(sums, rest, strict=False):
            total.value = term(place, only, total.value)
        total = functools.reduce(code.fadd, [total.value for total in sums])
        return code.fdiv(code.reduced(code.fadd, total), FLOAT(width))

    with code.loop(0, given["rows"]) as row:
        at = code.times(row, width)
        half = code.times(row, width // 2)
        x, out = code.place(given["x"], at), code.place(given["out"], at)
        y, copy = code.place(given["y"], half if paired else at), code.place(given["copy"], half if rounds else at)

        def added(place, only, total):
            more = code.widened(y, code.over(place, 2), only=only) if paired else code.read(code.floats, y, place, only=only)
            sum_ = code.fadd(code.read(code.floats, x, place, only=only), more)
            code.write(sum_, out, place, only=only)
            return code.fadd(total, sum_)

        mean = code.splat(summed(added))

        def squared(place, only, total):
            off = code.fsub(code.read(code.floats, out, place, only=only), mean)
            off = code.select(code.first(only), off, code.constant(0)) if only else off
            return code.fma(off, off, total)

        root = code.intrinsic("llvm.sqrt.f32", FLOAT, code.fadd(summed(squared), given["eps"]))
        scale = code.splat(code.fdiv(FLOAT(1.0), root))

        def normed(place, only):
            value = code.fmul(code.fsub(code.read(code.floats, out, place, only=only), mean), scale)
            value = code.fma(value, *(code.read(code.floats, given[name], place, only=only) for name in ("weight", "bias")))
            code.write(value, out, place, only=only)
            if rounds:
                code.write(code.rounded(value), copy, code.over(place, 2), only=only)

        code.by_registers(width, normed)
    return Compiled(code)
