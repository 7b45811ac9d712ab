"""Matrix products with the weights of an encoder, by the kernel that this processor and this torch are fastest with.

That is code of our own (fused_product.py) in float32, but on an Intel with AVX-512, and in bfloat16 with AVX-512's unit for it, but
with AMX; and not for weights that it cannot lay out. Elsewhere torch's own float32 products go to MKL, which takes its AVX2 path on an
AMD processor whatever that has; its bfloat16 products lay the weights out anew each time. oneDNN with packed weights, operations that
torch.compile emits (torch 2.10 to 2.13), does neither.

Batched products (those of [CLS] without keys, and of heads) go to MKL too unless torch is told that it may round float32 to
bfloat16: then oneDNN gets them, and where it has no AMX it computes in float32 all the same, at twice the rate of MKL's AVX2 path.

The same bits in any batch: with AMX oneDNN divides a bfloat16 sum by the number of rows (other bits at 33, 256, 512 and more), so half
precision always has one number of rows a product there, and wherever oneDNN does not have packed weights. MKL has other kernels for
fewer than FEWEST_ROWS rows, and without AVX-512 for the last of more; oneDNN in float32 has not. So [CLS] rows go in blocks of
FEWEST_ROWS there.
"""

import contextlib
import functools
import threading

import torch
from torch.nn import functional as F

from twostage.encoder import fused_product
from twostage.encoder.processor import has_amx, has_avx512, has_bfloat16, made_by_intel

BLOCK = 256  # rows of a product of tokens on a CPU: its input and output stay in the cache of a core
NARROW = 768  # inputs: below that a block is twice as high
FEW = 32  # rows of a product of [CLS] tokens in bfloat16
FEWEST_ROWS = 16  # of a product; their number is a multiple of it, for oneDNN keeps a kernel for each that it has met


def block_rows(width: int) -> int:
    """Rows of a block for a model this wide: more would be waste for a single short text."""
    return BLOCK if width >= NARROW else 2 * BLOCK


class Product:
    """rows (n, in) -> (n, out): rows @ weight.T + bias, then GELU where `gelu`. weight (out, in) as nn.Linear keeps it.

    sums: the result in float32 whatever the rows are, where a kernel can: it is to be added to a stream of float32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None, *, gelu: bool = False, sums: bool = False):
        kind = weight.device.type, weight.dtype
        self.fused = self.packed = None
        if fused_product.suits(*kind) and fused_product.fits(weight):
            self.fused = fused_product.FusedProduct(weight, bias, gelu, sums)
            return
        self.bias, self.gelu, self.packed = bias, gelu, can_pack(*kind)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, BLOCK) if self.packed else weight

    def __call__(self, rows: torch.Tensor, room=None) -> torch.Tensor:
        """room(n, out, dtype) gives memory for the result, where the kernel can use it."""
        if self.fused:
            return self.fused(rows, room)
        if self.packed:
            fused = self.gelu and has_avx512()  # without, oneDNN's own GELU is slow
            out = _onednn(rows, self.weight, self.bias, fused)
            return torch.ops.aten.gelu_(out) if self.gelu and not fused else out
        if room is None or self.bias is None:
            out = F.linear(rows, self.weight, self.bias)
        else:
            out = torch.addmm(self.bias, rows, self.weight.t(), out=room(len(rows), len(self.weight), rows.dtype))
        return torch.ops.aten.gelu_(out) if self.gelu else out

    def added(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """x + the product, in place. x may be of a wider dtype than the rows."""
        if self.fused or self.packed or x.dtype != rows.dtype:
            return x.add_(self(rows))
        return torch.addmm(x, rows, self.weight.t(), out=x)


@functools.cache
def can_pack(device: str, dtype: torch.dtype) -> bool:
    """Whether oneDNN with packed weights is there for this dtype, and better here than what torch does by itself."""
    if device != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    # float32: with AVX-512 MKL is as good on an Intel; without it, the bits of MKL's rows depend on how many there are on an Intel alone
    float32 = dtype == torch.float32 and has_avx512() != made_by_intel()
    if not float32 and not (dtype == torch.bfloat16 and has_avx512() and has_bfloat16()):
        return False
    weight, rows = torch.eye(16, dtype=dtype), torch.linspace(-3, 3, 256, dtype=dtype).view(16, 16)
    with contextlib.suppress(AttributeError, RuntimeError), torch.inference_mode():  # a torch that names them otherwise
        got = _onednn(rows, torch.ops.mkldnn._reorder_linear_weight(weight, BLOCK), None, True)
        return torch.allclose(got.float(), F.gelu(rows.float()), atol=1e-5 if dtype == torch.float32 else 2e-2)
    return False


def any_rows(device: str, dtype: torch.dtype) -> bool:
    """Whether a product of FEWEST_ROWS rows or more gives each row the same bits however many there are."""
    return dtype == torch.float32 or can_pack(device, dtype) and not has_amx()


@functools.cache
def batches_by_onednn(device: str) -> bool:
    """Whether oneDNN computes batched float32 products here, within Float32ByOneDNN, with the same bits in any batch."""
    if not can_pack(device, torch.float32) or has_amx() or not has_avx512():
        return False
    return _stays_float32()


def _stays_float32() -> bool:
    a, b = torch.linspace(-3, 3, 2 * 64 * 64).view(2, 64, 64), torch.linspace(1, 2, 2 * 64 * 64).view(2, 64, 64)
    with contextlib.suppress(AttributeError, RuntimeError), Float32ByOneDNN():  # a torch that has no such setting
        return torch.allclose(torch.bmm(a, b).double(), torch.bmm(a.double(), b.double()), rtol=1e-5, atol=1e-4)
    return False


class Float32ByOneDNN:
    """While any thread is inside, the process's float32 products go to oneDNN; afterwards torch is set as it was."""

    inside, before, lock = 0, None, threading.Lock()

    def __enter__(self) -> None:
        cls = type(self)
        with cls.lock:
            if not cls.inside:
                cls.before = torch.backends.mkldnn.matmul.fp32_precision
                torch.backends.mkldnn.matmul.fp32_precision = "bf16"
            cls.inside += 1

    def __exit__(self, *exception) -> None:
        cls = type(self)
        with cls.lock:
            cls.inside -= 1
            if not cls.inside:
                torch.backends.mkldnn.matmul.fp32_precision = cls.before


def _onednn(rows: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None, gelu: bool) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "gelu" if gelu else "none", [], "none")


def in_blocks(x: torch.Tensor, rows: int) -> list[torch.Tensor]:
    """x (n, …) in blocks of exactly `rows` rows."""
    return [filled(block, rows) for block in x.split(rows)]


def filled(x: torch.Tensor, rows: int) -> torch.Tensor:
    """x with a multiple of `rows` rows: copies of the last one fill it up."""
    short = -len(x) % rows
    return torch.cat([x, x[-1:].expand(short, *x.shape[1:])]) if short else x
