"""Products with the weights of an encoder by machine code of our own: rows @ weight.T + bias, then GELU before a number is rounded.

Sums of six rows and four registers of outputs (two of 8 lanes), a tile, fill a processor's registers. The weights that a tile meets
lie one after another; those of 64 outputs, a panel, stay in the second cache while all rows go by. Where outputs are no whole panels
the last panel has some of the one before again.

A number is one sum of its inputs in their order, and then the bias: it has the same bits in any batch.
"""

import contextlib
import functools
import math

import numpy as np
import torch
from torch.nn import functional as F

from twostage.encoder.processor import AVX2, AVX512, ROWS, WIDE, has_amx, has_avx512, has_bfloat16, lanes, made_by_intel

PANEL = 64  # outputs: whole tiles of either width
UNROLLED = 4
CACHED = {AVX2: 280_000, AVX512: 450_000}  # bytes of a panel in float32; more inputs than that holds go in parts
# The normal distribution's tail in as many pieces as a permute can choose from: how many, how wide, and the degree of their polynomials.
TAIL = {AVX2: (8, 13 / 16, 7), AVX512: (32, 3 / 16, 4)}  # errors of GELU below 2.4e-7
PAIRED_DEGREE = 2  # 1.2e-5 before it is rounded to bfloat16


@functools.cache
def suits(device: str, dtype: torch.dtype) -> bool:
    """Whether products are computed by this module here: decided by what the processor is, tried on a few numbers."""
    paired = dtype == torch.bfloat16
    if paired:
        faster = has_avx512() and has_bfloat16() and not has_amx()
    else:
        faster = dtype == torch.float32 and not (has_avx512() and made_by_intel())
    if device != "cpu" or not lanes() or not faster:
        return False
    with contextlib.suppress(ImportError, AttributeError, RuntimeError, TypeError), torch.inference_mode():
        weight, rows = (torch.linspace(-0.25, 0.25, many * 16).sin().view(many, 16).to(dtype) for many in (PANEL, 7))
        wanted = F.gelu(rows.double() @ weight.double().T)
        return torch.allclose(FusedProduct(weight, None, True)(rows).double(), wanted, atol=5e-3 if paired else 1e-6)
    return False


def fits(weight: torch.Tensor) -> bool:
    """Whether weight (out, in) fills a panel, and has whole units of outputs and inputs for whole turns of the loop."""
    (out, inputs), each = weight.shape, in_a_unit(weight.dtype)
    return out >= PANEL and out % each == 0 and inputs % (UNROLLED * each) == 0


def in_a_unit(dtype: torch.dtype) -> int:
    """Numbers in 32 bits."""
    return 2 if dtype == torch.bfloat16 else 1


class FusedProduct:
    """rows (n, in) in the weight's dtype -> (n, out) in the same, or as the sums are, float32. weight (out, in) as nn.Linear has it."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, gelu: bool, sums: bool = False):
        self.out, inputs = weight.shape
        self.dtype = torch.float32 if sums else weight.dtype
        each, self.units = in_a_unit(weight.dtype), inputs // in_a_unit(weight.dtype)
        tile = WIDE[lanes()] * lanes()
        if self.out % PANEL:
            panels = torch.arange(0, self.out, PANEL).clamp(max=self.out - PANEL)
            weight = weight[(panels[:, None] + torch.arange(PANEL)).flatten()]
        tiles = weight.reshape(-1, tile, self.units, each).transpose(1, 2)
        self.tiles = tiles.contiguous()  # (tiles, units, outputs of a tile, numbers of a unit)
        self.bias = weight.new_zeros(self.out) if bias is None else bias.contiguous()
        # A sum in parts waits in float32, where the result will be.
        parts = 1 if gelu or each == 2 else math.ceil(4 * self.units * PANEL / CACHED[lanes()])
        self.part = math.ceil(self.units / (parts * UNROLLED)) * UNROLLED
        self.pointers = self.tiles.data_ptr(), self.bias.data_ptr()
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

        self.to, self.paired, self.gelu, self.rounds, self.lanes, self.wide = to, paired, gelu, rounds, lanes, WIDE[lanes]
        pointers = dict.fromkeys(("rows", "tiles", "bias", "out"), to.POINTER)
        self.code = to.Code("product", pointers | dict.fromkeys(("many", "outputs", "units", "part"), to.INT), lanes)
        self.__dict__ |= self.code.given  # rows, tiles, bias, … as the code has them

    def written(self):
        code = self.code
        with code.loop(0, self.outputs, PANEL) as panel, code.loop(0, self.units, self.part) as start:
            stop, first = (
                code.least(code.plus(start, self.part), self.units),
                code.least(panel, code.plus(self.outputs, -PANEL)),
            )
            with code.loop(0, self.many, ROWS) as row, code.loop(0, PANEL, self.wide * self.lanes) as at:
                tile = code.place(self.tiles, code.times(code.plus(panel, at), self.units))
                self.tile(row, tile, code.plus(first, at), start, stop)
        return code

    def tile(self, row, tile, first, start, stop) -> None:
        """Some rows times the weights of a tile, for the outputs from the first on, or a part of the inputs of both."""
        code = self.code
        outs = [self.outputs_of(row, i, first) for i in range(ROWS)]
        sums = [[code.variable(number) for number in self.begun(out, start)] for out in outs]
        rows = [code.place(self.rows, code.times(self.last_at_most(row, i), self.units)) for i in range(ROWS)]
        with code.loop(start, stop, UNROLLED) as at:
            for unit in (code.plus(at, i) for i in range(UNROLLED)):
                place = code.times(unit, self.wide * self.lanes)
                weights = [code.read(code.units, tile, place, i * self.lanes) for i in range(self.wide)]
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
            return [zero] * self.wide
        later = code.icmp_signed(">", start, self.to.INT(0))
        return [code.select(later, code.read(code.floats, out, i * self.lanes), zero) for i in range(self.wide)]

    def gelu_of(self, numbers: list) -> list:
        """max(x, 0) - |x| Phi(-|x|), Phi being the normal distribution."""
        code, (pieces, piece, degree) = self.code, TAIL[self.lanes]
        degree, end = PAIRED_DEGREE if self.paired else degree, code.constant(end_of(pieces, piece))
        sizes = [code.smaller(code.intrinsic(f"llvm.fabs.v{self.lanes}f32", code.floats, x), end) for x in numbers]
        places, beyond = zip(*(code.divided(x, piece) for x in sizes), strict=True)
        # Terms of x itself would cancel in float32: its polynomials are of what x is beyond the middle of a piece.
        rest, tables = sizes if self.paired else beyond, tail_in_pieces(pieces, piece, degree, not self.paired)
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
            return [code.widened(self.bias, code.over(first, 2), i * self.lanes // 2) for i in range(self.wide)]
        return [code.read(code.floats, self.bias, first, i * self.lanes) for i in range(self.wide)]

    def write(self, numbers: list, out) -> None:
        code = self.code
        for i, number in enumerate(numbers):
            if self.rounds:
                code.write(code.rounded(number), out, i * self.lanes // 2)
            else:
                code.write(number, out, i * self.lanes)


def end_of(pieces: int, piece: float) -> float:
    """Where so many pieces end whose middles are 0, piece, 2 piece…: just before another would be nearer."""
    return (pieces - 0.75) * piece


@functools.cache
def tail_in_pieces(pieces: int, piece: float, degree: int, beyond: bool) -> list[list[float]]:
    """Phi(-x) for x from 0 on, by polynomials through the Chebyshev points of each piece, of x or of what x is beyond the middle of
    its piece: a table of their constants, one of their linear coefficients…"""
    fitted = []
    for middle in (i * piece for i in range(pieces)):
        zero = middle if beyond else 0
        tail = np.vectorize(lambda x, zero=zero: math.erfc((zero + x) / math.sqrt(2)) / 2)
        span = max(0, middle - piece / 2) - zero, min(end_of(pieces, piece), middle + piece / 2) - zero
        fitted.append(np.polynomial.Chebyshev.interpolate(tail, degree, span).convert(kind=np.polynomial.Polynomial).coef)
    return np.transpose(fitted).tolist()
