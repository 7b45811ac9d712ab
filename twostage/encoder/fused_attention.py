"""softmax(Q K^T) V of one document and head after another, without a matrix of scores: six rows of it at a time, near the registers.

Keys and values are read, and what is attended to is written, where the products of all heads have it: nothing is laid out by head.
Keys are transposed once a head, so that a register holds one number of `lanes` keys; in bfloat16 values go two tokens side by side.
Scores, powers and sums are float32 whatever the values are in; the row's largest score is taken off first.

Each document and head is computed by itself, the last register of keys filled up: it has the same bits in any batch. Of a head whose
numbers fill no registers the last one holds fewer.
"""

import contextlib
import functools
import math

import torch

from twostage.encoder.processor import ROWS, WIDE, has_amx, has_avx512, has_bfloat16, lanes
from twostage.memory import room

UNROLLED = 4
DEGREE = {False: 6, True: 4}  # of the powers' polynomial: errors of 1e-8, and of 4e-6 where they are rounded to bfloat16


@functools.cache
def suits(device: str, dtype: torch.dtype, width: int) -> bool:
    """Whether heads of this width are attended to by this module here: decided by what the processor is, tried on a few numbers."""
    paired = dtype == torch.bfloat16
    if device != "cpu" or not (dtype == torch.float32 or paired and has_avx512() and has_bfloat16() and not has_amx()):
        return False
    if not lanes() or width % 2:
        return False
    with contextlib.suppress(ImportError, AttributeError, RuntimeError, TypeError), torch.inference_mode():
        x = torch.linspace(-2, 2, 3 * 21 * width, dtype=torch.float64).sin().view(3, 21, width)
        q, k, v = x.to(dtype)
        starts = torch.tensor([0, 21])
        got = attend(q, k, v, starts, starts, 21, 1, 1.0)
        right = (q.double() @ k.double().T).softmax(-1) @ v.double()
        return torch.allclose(got.double(), right, atol=3e-2 if paired else 1e-4)
    return False


def attend(q, k, v, q_starts, k_starts, longest: int, heads: int, scale: float | None = None) -> torch.Tensor:
    """q (queries, D), k and v (tokens or more, D), rows alike far apart in k and v -> softmax(scale q k^T) v (queries, D).

    scale: one over the root of a head's width where it is not given.
    q_starts, k_starts (B + 1,) int64: where the rows of each document begin, and the last ends. longest: the most tokens of one.
    """
    width, paired = q.shape[1] // heads, q.dtype == torch.bfloat16
    each, lane = 2 if paired else 1, lanes()
    full = -(-longest // lane) * lane
    units = full * math.ceil(width / lane) * lane // each  # of the keys, and of the values, at most: four bytes each
    keys = room("attention", (2 * units + ROWS * (full + lane),), torch.float32).data_ptr()
    attended = torch.empty(len(q), q.shape[1], dtype=q.dtype)
    kernel(width, paired, lane)(
        *(x.data_ptr() for x in (q, k, v, attended, q_starts, k_starts)), len(k_starts) - 1, heads,
        *(x.stride(0) // each for x in (q, k, attended)), (scale or width**-0.5) * math.log2(math.e),
        keys, keys + 4 * units, keys + 8 * units,
    )  # fmt: skip
    return attended


@functools.cache
def kernel(width: int, paired: bool, lanes: int):
    """The machine code for heads of this width; paired: bfloat16, two numbers in a unit of memory."""
    from twostage.encoder.machine_code import Compiled

    return Compiled(Attention(width, paired, lanes).written())


class Attention:
    """Writes the function. In it a row of a matrix is q_row (…) units after the one before."""

    def __init__(self, width: int, paired: bool, lanes: int):
        from twostage.encoder import machine_code as to

        self.to, self.paired, self.lanes = to, paired, lanes
        self.units = width // 2 if paired else width  # of a head's numbers of one token
        self.width, self.registers, self.rest = (
            width,
            math.ceil(width / lanes),
            width % lanes,
        )  # lanes of the last one that is not full
        self.wide = WIDE[lanes]  # registers of keys, or of values, at a time
        pointers, numbers = ("q", "k", "v", "out", "q_starts", "k_starts"), ("documents", "heads", "q_row", "k_row", "out_row")
        rooms = ("keys", "values", "scores")
        arguments = dict.fromkeys(pointers, to.POINTER) | dict.fromkeys(numbers, to.INT) | {"scale": to.FLOAT}
        self.code = to.Code("attend", arguments | dict.fromkeys(rooms, to.POINTER), lanes)
        self.__dict__ |= self.code.given  # q, k, v, … as the code has them

    def written(self):
        code = self.code
        with code.loop(0, self.documents) as document:
            first_query, queries = self.rows_of(document, self.q_starts)
            first_token, tokens = self.rows_of(document, self.k_starts)
            with code.loop(0, self.heads) as head:
                at = code.times(head, self.units)
                q, k, v, out = (
                    code.place(matrix, code.times(first, row), at)
                    for matrix, first, row in (
                        (self.q, first_query, self.q_row), (self.k, first_token, self.k_row),
                        (self.v, first_token, self.k_row), (self.out, first_query, self.out_row),
                    )
                )  # fmt: skip
                self.one_head(q, k, v, out, queries, tokens)
        return code

    def rows_of(self, document, starts):
        code = self.code
        start, stop = (code.read(self.to.INT, starts, code.times(code.plus(document, more), 2)) for more in (0, 1))
        return start, code.sub(stop, start)

    def one_head(self, q, k, v, out, queries, tokens) -> None:
        code = self.code
        blocks = code.over(tokens, self.lanes)  # of keys, a register each
        self.transpose_keys(k, tokens, blocks)
        if self.paired:
            self.pair_values(v, tokens)
        row = code.plus(code.times(blocks, self.lanes), self.lanes)
        scores = [code.place(self.scores, code.times(row, i)) for i in range(ROWS)]
        with code.loop(0, queries, ROWS) as query:
            rows = [code.least(code.plus(query, i), code.plus(queries, -1)) for i in range(ROWS)]
            tops = self.scores_of([code.place(q, code.times(row, self.q_row)) for row in rows], scores, blocks)
            sums = self.powers(scores, tops, tokens, blocks)
            self.mix(v, scores, sums, [code.place(out, code.times(row, self.out_row)) for row in rows], tokens)

    def transpose_keys(self, k, tokens, blocks) -> None:
        """Of each block of keys the first unit of all, then the second…; the last key fills the last block up."""
        code = self.code
        with code.loop(0, blocks) as block:
            rows = [self.last_at_most(code.plus(code.times(block, self.lanes), i), tokens) for i in range(self.lanes)]

            def transpose(at, only: int) -> None:
                keys = [code.read(code.units, k, code.times(row, self.k_row), at, only=only) for row in rows]
                to = code.place(self.keys, code.times(code.plus(code.times(block, self.units), at), self.lanes))
                for i, column in enumerate(code.transposed(keys)[: only or self.lanes]):
                    code.write(column, to, i * self.lanes)

            code.by_registers(self.units, transpose)

    def pair_values(self, v, tokens) -> None:
        """Values of two tokens side by side: an odd one beside itself, which a power of zero takes out again."""
        code, half = self.code, self.to.ir.VectorType(self.to.ir.IntType(16), self.lanes)
        with code.loop(0, code.over(tokens, 2)) as pair:
            rows = [code.times(self.last_at_most(code.plus(code.times(pair, 2), i), tokens), self.k_row) for i in range(2)]

            def weave(at, only: int) -> None:
                both = [code.read(half, v, row, code.over(at, 2), only=only) for row in rows]
                code.write(code.woven(*both), self.values, code.times(pair, self.registers * self.lanes), at)

            code.by_registers(self.width, weave)

    def last_at_most(self, row, tokens):
        return self.code.least(row, self.code.plus(tokens, -1))

    def scores_of(self, queries: list, scores: list, blocks) -> list:
        """Write each query's scores, and give a register that has the largest of all in one of its lanes."""
        code, done, wide = self.code, self.to.INT(0), self.wide
        tops = [code.variable(code.constant(-math.inf)) for _ in queries]
        while wide:  # four registers of keys at a time, then two, then one
            stop = code.plus(done, code.times(code.udiv(code.sub(blocks, done), self.to.INT(wide)), wide))
            with code.loop(done, stop, wide) as block:
                keys = [code.place(self.keys, code.times(code.plus(block, i), self.units * self.lanes)) for i in range(wide)]
                with self.tile(queries, wide) as (sums, add):
                    whole = self.units // UNROLLED * UNROLLED
                    with code.loop(0, whole, UNROLLED) as first:
                        for unit in (code.plus(first, i) for i in range(UNROLLED)):
                            add(unit, [code.read(code.units, key, code.times(unit, self.lanes)) for key in keys])
                    for unit in range(whole, self.units):
                        add(unit, [code.read(code.units, key, unit * self.lanes) for key in keys])
                for row, own, top in zip(scores, sums, tops, strict=True):
                    for i, score in enumerate(own):
                        code.write(score.value, row, code.times(code.plus(block, i), self.lanes))
                        top.value = code.larger(top.value, score.value)
            done, wide = stop, wide // 2
        return [top.value for top in tops]

    @contextlib.contextmanager
    def tile(self, rows: list, wide: int):
        """A sum for each row and each of so many registers, and add(at, registers): to each the row's unit `at` times the register."""
        code = self.code
        sums = [[code.variable(code.constant(0)) for _ in range(wide)] for _ in rows]

        def add(at, registers: list) -> None:
            for row, own in zip(rows, sums, strict=True):
                unit = code.splat(code.read(self.to.UNIT, row, at))
                for total, register in zip(own, registers, strict=True):
                    total.value = code.dot(self.paired, total.value, unit, register)

        yield sums, add

    def powers(self, rows: list, tops: list, tokens, blocks) -> list:
        """Put 2^(scale (score - largest)) in the place of rows of scores, in the dtype of the values; give their sums."""
        code = self.code
        scale, totals = code.splat(self.scale), [code.variable(code.constant(0)) for _ in rows]
        shifts = [code.fneg(code.fmul(code.splat(code.reduced(code.larger, top)), scale)) for top in tops]

        def block_of(block, kept=None) -> None:
            at, half = code.times(block, self.lanes), code.times(block, self.lanes // 2)
            logs = [code.fma(code.read(code.floats, row, at), scale, shift) for row, shift in zip(rows, shifts, strict=True)]
            powers = code.exp2([code.larger(code.constant(-126), log) for log in logs], DEGREE[self.paired])
            for row, total, power in zip(rows, totals, powers, strict=True):
                power = code.select(kept, power, code.constant(0)) if kept else power
                total.value = code.fadd(total.value, power)
                code.write(*(code.rounded(power), row, half) if self.paired else (power, row, at))

        last = code.plus(blocks, -1)
        with code.loop(0, last) as block:
            block_of(block)
        block_of(last, code.below(tokens, code.times(last, self.lanes)))
        return [code.reduced(code.fadd, total.value) for total in totals]

    def mix(self, v, powers: list, sums: list, out: list, tokens) -> None:
        """Write the values, mixed by their powers, over the sums of these."""
        code = self.code
        shares = [code.splat(code.fdiv(self.to.FLOAT(1.0), total)) for total in sums]
        base, row = (self.values, self.registers * self.lanes) if self.paired else (v, self.k_row)
        steps = code.over(tokens, 2) if self.paired else tokens

        def mixed(parts: list, rest: int = 0) -> None:
            """Some registers of values, in the last only so many lanes."""
            only = [0] * (len(parts) - 1) + [rest]
            with self.tile(powers, len(parts)) as (sums, add), code.loop(0, steps) as step:
                at = code.times(step, row)
                of = zip(parts, [0] * len(parts) if self.paired else only, strict=True)
                add(step, [code.read(code.units, base, at, code.times(one, self.lanes), only=some) for one, some in of])
            for to, share, own in zip(out, shares, sums, strict=True):
                for one, total, some in zip(parts, own, only, strict=True):
                    value = code.fmul(total.value, share)
                    if self.paired:
                        code.write(code.rounded(value), to, code.times(one, self.lanes // 2), only=some)
                    else:
                        code.write(value, to, code.times(one, self.lanes), only=some)

        grouped = self.width // (self.wide * self.lanes) * self.wide
        with code.loop(0, grouped, self.wide) as part:
            mixed([code.plus(part, i) for i in range(self.wide)])
        if self.registers > grouped:
            mixed(list(range(grouped, self.registers)), self.rest)
