"""Loops over registers as machine code for this processor, made when they are asked for by LLVM (the package llvmlite).

Code writes one function. Its memory is counted in units of 32 bits: a float32 each, or two bfloat16 side by side.
"""

import contextlib
import ctypes
import threading

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir

from twostage.encoder.processor import AVX2, AVX512, has_bfloat16

INT, UNIT, FLOAT, POINTER = ir.IntType(64), ir.IntType(32), ir.FloatType(), ir.PointerType()
C_TYPES = {INT: ctypes.c_int64, FLOAT: ctypes.c_float, POINTER: ctypes.c_void_p}
TO_INTEGER = 1.5 * 2**23  # added to a float32, it leaves the nearest whole number in its lowest bits
MANTISSA_BITS = 23  # of a float32


class BFloat(ir.Type):
    """bfloat16, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


class Code(ir.IRBuilder):
    """Writes a function of 64-bit whole numbers, pointers and floats (their names and types in `arguments`).

    lanes: float32 numbers in a register. Whole numbers of Python may stand wherever INT is asked for.
    """

    def __init__(self, name: str, arguments: dict, lanes: int):
        self.name, self.lanes, self.types = name, lanes, list(arguments.values())
        function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), self.types), name)
        super().__init__(function.append_basic_block())
        self.given = dict(zip(arguments, function.args, strict=True))
        self.floats, self.units = ir.VectorType(FLOAT, lanes), ir.VectorType(UNIT, lanes)

    @contextlib.contextmanager
    def loop(self, start, stop, step=1):
        """What is written inside is done for a number from start, by step, while it is below stop."""
        start, stop, step = map(number, (start, stop, step))
        before, head, body, end = self.block, *(self.append_basic_block() for _ in range(3))
        self.branch(head)
        self.position_at_end(head)
        i = self.phi(INT)
        i.add_incoming(start, before)
        self.cbranch(self.icmp_signed("<", i, stop), body, end)
        self.position_at_end(body)
        yield i
        i.add_incoming(self.add(i, step), self.block)
        self.branch(head)
        self.position_at_end(end)

    def by_registers(self, numbers: int, do) -> None:
        """do(at, only) for each register of so many numbers; only so many lanes of the last where it is not full."""
        whole = numbers // self.lanes * self.lanes
        with self.loop(0, whole, self.lanes) as at:
            do(at, 0)
        if numbers > whole:
            do(whole, numbers - whole)

    def variable(self, value) -> "Variable":
        return Variable(self, value)

    def plus(self, *numbers):
        first, *others = map(number, numbers)
        for other in others:
            first = self.add(first, other)
        return first

    def times(self, a, b):
        return self.mul(number(a), number(b))

    def over(self, a, b: int):
        """a / b, rounded up."""
        return self.udiv(self.plus(a, b - 1), number(b))

    def least(self, a, b):
        return self.select(self.icmp_signed("<", number(a), number(b)), number(a), number(b))

    def place(self, pointer, *units):
        """The address so many units after the pointer: their sum."""
        return self.gep(pointer, [self.plus(*units)], source_etype=UNIT)

    def read(self, kind, pointer, *units, only: int = 0):
        """only: so many lanes of a register, the others are nothing."""
        place = self.place(pointer, *units)
        if only in (0, self.lanes):
            return self.load(place, typ=kind, align=2)
        name, nothing = f"llvm.masked.load.{in_name(kind)}", ir.Constant(kind, None)
        return self.intrinsic(name, kind, place, UNIT(2), self.first(only), nothing)

    def write(self, value, pointer, *units, only: int = 0) -> None:
        """only: so many lanes of a register."""
        place = self.place(pointer, *units)
        if only in (0, self.lanes):
            self.store(value, place, align=2)
        else:
            self.intrinsic(f"llvm.masked.store.{in_name(value.type)}", ir.VoidType(), value, place, UNIT(2), self.first(only))

    def first(self, many: int):
        """A mask of the first so many lanes."""
        return ir.Constant(ir.VectorType(ir.IntType(1), self.lanes), [lane < many for lane in range(self.lanes)])

    def constant(self, value: float):
        """A register with this float32 in all lanes."""
        return ir.Constant(self.floats, [float(np.float32(value))] * self.lanes)

    def whole(self, value: int):
        """A register with this whole number in all lanes."""
        return ir.Constant(self.units, [value] * self.lanes)

    def splat(self, value):
        """A register with a value that is known when the code runs in all lanes."""
        vector = ir.VectorType(value.type, self.lanes)
        one = self.insert_element(ir.Constant(vector, ir.Undefined), value, UNIT(0))
        return self.lanes_of(one, one, [0] * self.lanes)

    def lanes_of(self, a, b, which):
        """Those lanes of a and b together, by their numbers: b's go on where a's end."""
        return self.shuffle_vector(a, b, ir.Constant(ir.VectorType(UNIT, len(which)), list(which)))

    def woven(self, a, b):
        """Lanes of a and b in turn: a register twice as wide."""
        return self.lanes_of(a, b, [lane for i in range(a.type.count) for lane in (i, a.type.count + i)])

    def transposed(self, rows: list) -> list:
        """As many registers as each has lanes, a square matrix by rows -> by columns."""
        half, many = len(rows) // 2, len(rows)
        for _ in range(many.bit_length() - 1):
            pairs = [self.woven(*pair) for pair in zip(rows[:half], rows[half:], strict=True)]
            rows = [self.lanes_of(pair, pair, part) for pair in pairs for part in (range(many), range(many, 2 * many))]
        return rows

    def reduced(self, combine, vector):
        """All lanes combined, by halves: a scalar."""
        many = self.lanes
        while many > 1:
            many //= 2
            halves = (self.lanes_of(vector, vector, part) for part in (range(many), range(many, 2 * many)))
            vector = combine(*halves)
        return self.extract_element(vector, UNIT(0))

    def below(self, stop, start):
        """For each lane whether start plus its number is below stop."""
        lanes = self.add(ir.Constant(self.units, list(range(self.lanes))), self.splat(self.trunc(start, UNIT)))
        return self.icmp_signed("<", lanes, self.splat(self.trunc(stop, UNIT)))

    def larger(self, a, b):
        """The larger in each lane; b where one of them is no number."""
        return self.select(self.fcmp_ordered(">", a, b), a, b)

    def fma(self, a, b, c):
        """a * b + c, rounded once."""
        return self.intrinsic(f"llvm.fma.v{self.lanes}f32", self.floats, a, b, c)

    def dot(self, paired: bool, total, a, b):
        """total + a * b, a and b registers of units; where `paired` these are two bfloat16 each, and a lane adds both products."""
        if not paired:
            return self.fma(self.bitcast(a, self.floats), self.bitcast(b, self.floats), total)
        pairs = ir.VectorType(BFloat(), 2 * self.lanes)
        name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * self.lanes}"
        return self.intrinsic(name, self.floats, total, self.bitcast(a, pairs), self.bitcast(b, pairs))

    def widened(self, pointer, *units, only: int = 0):
        """As many bfloat16 from memory, as float32."""
        half = self.read(ir.VectorType(ir.IntType(16), self.lanes), pointer, *units, only=only)
        return self.bitcast(self.shl(self.zext(half, self.units), self.whole(16)), self.floats)

    def rounded(self, vector):
        """float32 as bfloat16: a register half as wide."""
        pairs = ir.VectorType(BFloat(), self.lanes)
        if self.lanes == AVX512 and has_bfloat16():
            return self.fptrunc(vector, pairs)
        # Where no instruction does it LLVM would call a function, which isn't there. What is no number stays none.
        of, half, bits = self.whole, self.whole(16), self.bitcast(vector, self.units)
        nearest = self.lshr(self.add(self.add(bits, of(0x7FFF)), self.and_(self.lshr(bits, half), of(1))), half)
        nearest = self.select(self.fcmp_unordered("uno", vector, vector), of(0x7FC0), nearest)
        return self.bitcast(self.trunc(nearest, ir.VectorType(ir.IntType(16), self.lanes)), pairs)

    def smaller(self, a, b):
        """The smaller in each lane; b where one of them is no number."""
        return self.select(self.fcmp_ordered("<", a, b), a, b)

    def polynomial(self, coefficients: list[list], numbers: list) -> list:
        """Of each of the registers, step by step for all. coefficients: for each power, the constant first, a register each."""
        *lower, values = coefficients
        for own in reversed(lower):
            values = [self.fma(value, x, coefficient) for value, x, coefficient in zip(values, numbers, own, strict=True)]
        return values

    def divided(self, x, step: float):
        """The whole number nearest to x / step, in the lowest bits of each lane, and x - step times it."""
        shifted = self.fma(x, self.constant(1 / step), self.constant(TO_INTEGER))
        whole = self.fsub(shifted, self.constant(TO_INTEGER))
        return self.bitcast(shifted, self.units), self.fma(whole, self.constant(-step), x)

    def chosen(self, table: list[float], which):
        """Of a table of float32, 8 of 8 lanes or 32 of 16, the one that the lowest bits of each lane name."""
        parts = (table[at : at + self.lanes] for at in range(0, len(table), self.lanes))
        first, *last = (ir.Constant(self.floats, [float(np.float32(x)) for x in part]) for part in parts)
        if not last:
            return self.intrinsic("llvm.x86.avx2.permps", self.floats, first, which)
        return self.intrinsic("llvm.x86.avx512.vpermi2var.ps.512", self.floats, first, which, *last)

    def exp2(self, numbers: list, degree: int) -> list:
        """2^x in each lane of each of the registers for -126 <= x <= 0, by a polynomial of that degree."""
        whole, rest = zip(*(self.divided(x, 1) for x in numbers), strict=True)
        powers = self.polynomial([[self.constant(x)] * len(numbers) for x in powers_of_two(degree)], rest)
        bits = self.whole(MANTISSA_BITS)
        pairs = zip(powers, whole, strict=True)
        return [self.bitcast(self.add(self.bitcast(power, self.units), self.shl(n, bits)), self.floats) for power, n in pairs]

    def intrinsic(self, name: str, result, *values):
        found = self.module.globals.get(name)
        return self.call(found or ir.Function(self.module, ir.FunctionType(result, [v.type for v in values]), name), values)


class Variable:
    """A value that changes; LLVM keeps it in a register."""

    def __init__(self, code: Code, value):
        self.code, self.kind = code, value.type
        with code.goto_entry_block():
            self.slot = code.alloca(value.type)
        self.value = value

    @property
    def value(self):
        return self.code.load(self.slot, typ=self.kind)

    @value.setter
    def value(self, value) -> None:
        self.code.store(value, self.slot)


class Compiled:
    """A function that was written, for this processor. Calls let other Python threads run meanwhile."""

    lock = threading.Lock()

    def __init__(self, code: Code):
        code.ret_void()
        with Compiled.lock:
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
            module = llvm.parse_assembly(str(code.module))
            module.verify()
            features = llvm.get_host_cpu_features()
            if code.lanes == AVX2:  # as where there is nothing else
                features.update({name: False for name in features if name.startswith("avx512")})
            target = llvm.Target.from_default_triple()
            machine = target.create_target_machine(llvm.get_host_cpu_name(), features.flatten(), opt=3)
            options = llvm.create_pipeline_tuning_options(speed_level=3)
            options.loop_vectorization = options.slp_vectorization = False  # it is vectors already
            passes = llvm.create_pass_builder(machine, options)
            passes.getModulePassManager().run(module, passes)
            self.engine = llvm.create_mcjit_compiler(module, machine)
            self.engine.finalize_object()
        address = self.engine.get_function_address(code.name)
        self.call = ctypes.CFUNCTYPE(None, *(C_TYPES[kind] for kind in code.types))(address)

    def __call__(self, *arguments) -> None:
        self.call(*arguments)


def in_name(kind: ir.VectorType) -> str:
    """A vector in memory, in the name of an intrinsic."""
    element = str(kind.element)
    return f"v{kind.count}{ {'float': 'f32', 'bfloat': 'bf16'}.get(element, element) }.p0"


def number(value):
    return INT(value) if isinstance(value, int) else value


def powers_of_two(degree: int) -> list[float]:
    """Coefficients of 2^x from -1/2 to 1/2 through its Chebyshev points, the constant first."""
    fitted = np.polynomial.Chebyshev.interpolate(np.exp2, degree, [-0.5, 0.5])
    return fitted.convert(kind=np.polynomial.Polynomial).coef.tolist()
