"""Products with the weights of an encoder by machine code of our own: rows @ weight.T + bias, then GELU before a number is rounded.

Sums of six rows and four registers of outputs fill a processor's registers. The weights that they meet, 64 outputs of all inputs (a
panel), lie one after another, and stay in the second cache while all rows go by.

A number is one sum of its inputs in their order, and then the bias: it has the same bits in any batch.
"""

import contextlib
import functools
import math

import numpy as np
import torch
from torch.nn import functional as F

from twostage.encoder.processor import has_amx, has_avx512, has_bfloat16, lanes, made_by_intel
from twostage.memory import room

ROWS, WIDE = 6, 4  # rows, and registers of outputs, at a time
UNROLLED = 4
CACHED = 450_000  # bytes of a panel in float32; more inputs than that holds go in parts
STRIP = 48  # rows that wait for GELU in the nearest cache
TOGETHER = 2  # of them at a time: one would wait for itself
# Degrees of its two polynomials: errors of 2.4e-7, and of 2.4e-5 where the result is rounded to bfloat16.
GELU = {False: (10, 6), True: (5, 4)}
TAIL = {False: 6.0, True: 5.0}  # beyond it the normal distribution's tail is taken to be what it is there: below 3e-7


@functools.cache
def suits(device: str, dtype: torch.dtype) -> bool:
    """Whether products are computed by this module here: decided by what the processor is, tried on a few numbers."""
    paired = dtype == torch.bfloat16
    if device != "cpu" or not has_avx512() or not lanes():
        return False
    if not (paired and has_bfloat16() and not has_amx() or dtype == torch.float32 and not made_by_intel()):
        return False
    with contextlib.suppress(ImportError, AttributeError, RuntimeError, TypeError), torch.inference_mode():
        weight, rows = (torch.linspace(-0.25, 0.25, many * 16).sin().view(many, 16).to(dtype) for many in (WIDE * lanes(), 7))
        wanted = F.gelu(rows.double() @ weight.double().T)
        return torch.allclose(FusedProduct(weight, None, True)(rows).double(), wanted, atol=5e-3 if paired else 1e-6)
    return False


def fits(weight: torch.Tensor) -> bool:
    """Whether weight (out, in) has whole panels, and inputs for whole turns of the loop."""
    out, inputs = weight.shape
    return out % (WIDE * lanes()) == 0 and inputs % (UNROLLED * in_a_unit(weight.dtype)) == 0


def in_a_unit(dtype: torch.dtype) -> int:
    """Numbers in 32 bits."""
    return 2 if dtype == torch.bfloat16 else 1


class FusedProduct:
    """rows (n, in) -> (n, out), both in the weight's dtype. weight (out, in) as nn.Linear keeps it."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, gelu: bool):
        self.out, inputs = weight.shape
        self.dtype, each, panel = weight.dtype, in_a_unit(weight.dtype), WIDE * lanes()
        self.units = inputs // each
        panels = weight.reshape(self.out // panel, panel, self.units, each).transpose(1, 2)
        self.panels = panels.contiguous()  # (panels, units, outputs of a panel, numbers of a unit)
        self.bias = weight.new_zeros(self.out) if bias is None else bias.contiguous()
        # A sum in parts waits in float32, where the result will be.
        parts = 1 if gelu or each == 2 else math.ceil(4 * self.units * panel / CACHED)
        self.part = math.ceil(self.units / (parts * UNROLLED)) * UNROLLED
        self.code = kernel(each == 2, gelu, lanes())

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        rows, out = rows.contiguous(), torch.empty(len(rows), self.out, dtype=self.dtype)
        sums = room("sums", (STRIP, WIDE * lanes()), torch.float32)
        pointers = (x.data_ptr() for x in (rows, self.panels, self.bias, out, sums))
        self.code(*pointers, len(rows), self.units, self.part, self.out)
        return out


@functools.cache
def kernel(paired: bool, gelu: bool, lanes: int):
    """The machine code; paired: bfloat16, two numbers in a unit of memory."""
    from twostage.encoder.machine_code import Compiled

    return Compiled(Writer(paired, gelu, lanes).written())


class Writer:
    """Writes the function."""

    def __init__(self, paired: bool, gelu: bool, lanes: int):
        from twostage.encoder import machine_code as to

        self.to, self.paired, self.gelu, self.lanes, self.panel = to, paired, gelu, lanes, WIDE * lanes
        pointers = dict.fromkeys(("rows", "panels", "bias", "out", "sums"), to.POINTER)
        self.code = to.Code("product", pointers | dict.fromkeys(("many", "units", "part", "outputs"), to.INT), lanes)
        self.__dict__ |= self.code.given  # rows, panels, bias, … as the code has them

    def written(self):
        code = self.code
        with code.loop(0, self.outputs, self.panel) as first, code.loop(0, self.units, self.part) as start:
            panel = code.place(self.panels, code.times(first, self.units))
            stop = code.least(code.plus(start, self.part), self.units)
            with code.loop(0, self.many, STRIP) as strip:
                end = code.least(code.plus(strip, STRIP), self.many)
                with code.loop(strip, end, ROWS) as row:
                    self.tile(row, first, panel, start, stop, code.sub(row, strip))
                if self.gelu:
                    with code.loop(strip, end, TOGETHER) as row:
                        self.activate(row, first, code.sub(row, strip))
        return code

    def tile(self, row, first, panel, start, stop, waiting) -> None:
        """Sums of some rows and a panel; those that GELU is for are left waiting in these rows and on."""
        code = self.code
        outs = [self.outputs_of(row, i, first) for i in range(ROWS)]
        sums = [[code.variable(number) for number in self.begun(out, start)] for out in outs]
        rows = [code.place(self.rows, code.times(self.last_at_most(row, i), self.units)) for i in range(ROWS)]
        with code.loop(start, stop, UNROLLED) as at:
            for unit in (code.plus(at, i) for i in range(UNROLLED)):
                place = code.times(unit, self.panel)
                weights = [code.read(code.units, panel, place, i * self.lanes) for i in range(WIDE)]
                for numbers, own in zip(rows, sums, strict=True):
                    number = code.splat(code.read(self.to.UNIT, numbers, unit))
                    for total, weight in zip(own, weights, strict=True):
                        total.value = code.dot(self.paired, total.value, number, weight)
        if self.gelu:
            for i, own in enumerate(sums):
                place = code.times(code.plus(waiting, i), self.panel)
                for j, total in enumerate(own):
                    code.write(total.value, self.sums, place, j * self.lanes)
            return
        last = code.icmp_signed("==", stop, self.units)
        bias = [code.select(last, x, code.constant(0)) for x in self.numbers(self.bias, first)]
        for out, own in zip(outs, sums, strict=True):
            self.write([code.fadd(total.value, x) for total, x in zip(own, bias, strict=True)], out)

    def begun(self, out, start) -> list:
        """What sums go on from: nothing, or in a later part of the inputs what stands where they will be."""
        code, zero = self.code, self.code.constant(0)
        if self.paired or self.gelu:
            return [zero] * WIDE
        later = code.icmp_signed(">", start, self.to.INT(0))
        return [code.select(later, code.read(code.floats, out, i * self.lanes), zero) for i in range(WIDE)]

    def activate(self, row, first, waiting) -> None:
        """GELU of sums that wait in these rows, with their bias."""
        code, bias = self.code, self.numbers(self.bias, first)
        places = [code.times(code.plus(waiting, i), self.panel) for i in range(TOGETHER)]
        sums = [code.read(code.floats, self.sums, place, i * self.lanes) for place in places for i in range(WIDE)]
        numbers = self.gelu_of([code.fadd(*both) for both in zip(sums, bias * TOGETHER, strict=True)])
        for i in range(TOGETHER):
            self.write(numbers[i * WIDE : (i + 1) * WIDE], self.outputs_of(row, i, first))

    def gelu_of(self, numbers: list) -> list:
        """max(x, 0) - |x| Phi(-|x|), Phi being the normal distribution, 2 to the power of a polynomial."""
        code, degrees, end = self.code, GELU[self.paired], self.code.constant(TAIL[self.paired])
        sizes = [code.smaller(code.intrinsic(f"llvm.fabs.v{self.lanes}f32", code.floats, x), end) for x in numbers]
        tails = code.exp2(code.polynomial(log_of_tail(degrees[0], TAIL[self.paired]), sizes), degrees[1])
        positive = [code.larger(code.constant(0), x) for x in numbers]  # what is no number stays none
        return [code.fma(code.fneg(size), tail, x) for x, size, tail in zip(positive, sizes, tails, strict=True)]

    def last_at_most(self, row, more: int):
        return self.code.least(self.code.plus(row, more), self.code.plus(self.many, -1))

    def outputs_of(self, row, more: int, first):
        return self.number_at(self.out, self.code.times(self.last_at_most(row, more), self.outputs), first)

    def number_at(self, pointer, *numbers):
        """The address so many numbers after the pointer."""
        at = self.code.plus(*numbers)
        return self.code.place(pointer, self.code.over(at, 2) if self.paired else at)

    def numbers(self, pointer, first) -> list:
        """Registers from so many numbers after the pointer on, as float32."""
        code, place = self.code, self.number_at(pointer, first)
        if self.paired:
            return [code.widened(place, i * self.lanes // 2) for i in range(WIDE)]
        return [code.read(code.floats, place, i * self.lanes) for i in range(WIDE)]

    def write(self, numbers: list, out) -> None:
        code = self.code
        for i, number in enumerate(numbers):
            if self.paired:
                code.write(code.rounded(number), out, i * self.lanes // 2)
            else:
                code.write(number, out, i * self.lanes)


@functools.cache
def log_of_tail(degree: int, end: float) -> list[float]:
    """Coefficients of log2 Phi(-x) for x from 0 to end, through its Chebyshev points, the constant first."""
    tail = np.vectorize(lambda x: math.log2(math.erfc(x / math.sqrt(2)) / 2))
    fitted = np.polynomial.Chebyshev.interpolate(tail, degree, [0, end])
    return fitted.convert(kind=np.polynomial.Polynomial).coef.tolist()
