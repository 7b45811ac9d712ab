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

ROWS, WIDE = 6, 4  # rows, and registers of outputs, at a time
UNROLLED = 4
CACHED = 450_000  # bytes of a panel in float32; more inputs than that holds go in parts
PIECE = 3 / 16  # of the normal distribution's tail: a polynomial stands for each
DEGREE = {False: 4, True: 2}  # errors of GELU below 2.4e-7, and of 1.2e-5 before it is rounded to bfloat16


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
    """rows (n, in) in the weight's dtype -> (n, out) in the same, or as the sums are, float32. weight (out, in) as nn.Linear has it."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, gelu: bool, sums: bool = False):
        self.out, inputs = weight.shape
        self.dtype = torch.float32 if sums else weight.dtype
        each, panel = in_a_unit(weight.dtype), WIDE * lanes()
        self.units = inputs // each
        panels = weight.reshape(self.out // panel, panel, self.units, each).transpose(1, 2)
        self.panels = panels.contiguous()  # (panels, units, outputs of a panel, numbers of a unit)
        self.bias = weight.new_zeros(self.out) if bias is None else bias.contiguous()
        # A sum in parts waits in float32, where the result will be.
        parts = 1 if gelu or each == 2 else math.ceil(4 * self.units * panel / CACHED)
        self.part = math.ceil(self.units / (parts * UNROLLED)) * UNROLLED
        self.pointers = self.panels.data_ptr(), self.bias.data_ptr()
        self.code = kernel(each == 2, gelu, in_a_unit(self.dtype) == 2, lanes())

    def __call__(self, rows: torch.Tensor, room=None) -> torch.Tensor:
        """room(n, out, dtype) gives memory for the result."""
        rows, shape = rows.contiguous(), (len(rows), self.out)
        out = torch.empty(shape, dtype=self.dtype) if room is None else room(*shape, self.dtype)
        self.code(rows.data_ptr(), *self.pointers, out.data_ptr(), *shape, self.units, self.part)
        return out


@functools.cache
def kernel(paired: bool, gelu: bool, rounds: bool, lanes: int):
    """The machine code; paired: of bfloat16, two numbers in a unit of memory; rounds: and so are the results."""
    from twostage.encoder.machine_code import Compiled

    return Compiled(Writer(paired, gelu, rounds, lanes).written())


class Writer:
    """Writes the function."""

    def __init__(self, paired: bool, gelu: bool, rounds: bool, lanes: int):
        from twostage.encoder import machine_code as to

        self.to, self.paired, self.gelu, self.rounds, self.lanes, self.panel = to, paired, gelu, rounds, lanes, WIDE * lanes
        pointers = dict.fromkeys(("rows", "panels", "bias", "out"), to.POINTER)
        self.code = to.Code("product", pointers | dict.fromkeys(("many", "outputs", "units", "part"), to.INT), lanes)
        self.__dict__ |= self.code.given  # rows, panels, bias, … as the code has them

    def written(self):
        code = self.code
        with code.loop(0, self.outputs, self.panel) as first, code.loop(0, self.units, self.part) as start:
            panel = code.place(self.panels, code.times(first, self.units))
            stop = code.least(code.plus(start, self.part), self.units)
            with code.loop(0, self.many, ROWS) as row:
                self.tile(row, first, panel, start, stop)
        return code

    def tile(self, row, first, panel, start, stop) -> None:
        """Some rows times a panel, or a part of its inputs."""
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
        last = code.icmp_signed("==", stop, self.units)
        bias = [code.select(last, x, code.constant(0)) for x in self.numbers_of_bias(first)]
        for out, own in zip(outs, sums, strict=True):
            numbers = [code.fadd(total.value, x) for total, x in zip(own, bias, strict=True)]
            self.write(self.gelu_of(numbers) if self.gelu else numbers, out)

    def begun(self, out, start) -> list:
        """What sums go on from: nothing, or in a later part of the inputs what stands where they will be."""
        code, zero = self.code, self.code.constant(0)
        if self.paired or self.gelu:
            return [zero] * WIDE
        later = code.icmp_signed(">", start, self.to.INT(0))
        return [code.select(later, code.read(code.floats, out, i * self.lanes), zero) for i in range(WIDE)]

    def gelu_of(self, numbers: list) -> list:
        """max(x, 0) - |x| Phi(-|x|), Phi being the normal distribution."""
        code, pieces = self.code, 2 * self.lanes
        end = code.constant(end_of(pieces))
        sizes = [code.smaller(code.intrinsic(f"llvm.fabs.v{self.lanes}f32", code.floats, x), end) for x in numbers]
        places, beyond = zip(*(code.divided(x, PIECE) for x in sizes), strict=True)
        # Terms of x itself would cancel in float32: its polynomials are of what x is beyond the middle of a piece.
        rest, tables = sizes if self.paired else beyond, tail_in_pieces(DEGREE[self.paired], pieces, not self.paired)
        tails = code.polynomial([[code.chosen(table, place) for place in places] for table in tables], rest)
        positive = [code.larger(code.constant(0), x) for x in numbers]  # what is no number stays none
        return [code.fma(code.fneg(size), tail, x) for x, size, tail in zip(positive, sizes, tails, strict=True)]

    def last_at_most(self, row, more: int):
        return self.code.least(self.code.plus(row, more), self.code.plus(self.many, -1))

    def outputs_of(self, row, more: int, first):
        at = self.code.plus(self.code.times(self.last_at_most(row, more), self.outputs), first)
        return self.code.place(self.out, self.code.over(at, 2) if self.rounds else at)

    def numbers_of_bias(self, first) -> list:
        """Of the outputs from the first on, as float32."""
        code = self.code
        if self.paired:
            return [code.widened(self.bias, code.over(first, 2), i * self.lanes // 2) for i in range(WIDE)]
        return [code.read(code.floats, self.bias, first, i * self.lanes) for i in range(WIDE)]

    def write(self, numbers: list, out) -> None:
        code = self.code
        for i, number in enumerate(numbers):
            if self.rounds:
                code.write(code.rounded(number), out, i * self.lanes // 2)
            else:
                code.write(number, out, i * self.lanes)


def end_of(pieces: int) -> float:
    """Where so many pieces end whose middles are 0, PIECE, 2 PIECE…: just before another would be nearer."""
    return (pieces - 0.75) * PIECE


@functools.cache
def tail_in_pieces(degree: int, pieces: int, beyond: bool) -> list[list[float]]:
    """Phi(-x) for x from 0 on, by polynomials through the Chebyshev points of each piece, of x or of what x is beyond the middle of
    its piece: a table of their constants, one of their linear coefficients…"""
    fitted = []
    for middle in (i * PIECE for i in range(pieces)):
        zero = middle if beyond else 0
        tail = np.vectorize(lambda x, zero=zero: math.erfc((zero + x) / math.sqrt(2)) / 2)
        span = max(0, middle - PIECE / 2) - zero, min(end_of(pieces), middle + PIECE / 2) - zero
        fitted.append(np.polynomial.Chebyshev.interpolate(tail, degree, span).convert(kind=np.polynomial.Polynomial).coef)
    return np.transpose(fitted).tolist()
