"""Dropout on a CPU, alone and in attention, that keeps a seed for the way back and no mask.

torch draws its masks number by number, which takes a fifth of a training step, and its attention with dropout keeps several
matrices of T x T numbers a head. Here a mask is 16 random bits a number out of numpy's SFC64, drawn again on the way back from the
same seed, which is torch's own random stream's. Attention goes a few documents at a time and computes its weights again on the way
back (Chen et al. 2016, of what is cheap to compute).
On a GPU, and where nothing is dropped, torch's own operations do the work.

Shapes: B documents, H heads, Q queries and T tokens a document, d = D / H.
"""

import numpy as np
import torch
import torch.nn.functional as F

LEVELS = 1 << 16  # a rate is a multiple of 1 / LEVELS
CHUNK = 1 << 22  # weights of attention that are computed at a time: with fewer, threads wait for each other more often


class Masks:
    """A stream of masks: the same one for equal seeds, taken in equal pieces. What is kept is to be multiplied by `scale`, so that
    the mean stays."""

    def __init__(self, seed: int, rate: float):
        self.bits, dropped = np.random.SFC64(seed), round(rate * LEVELS)
        self.first_kept = dropped - LEVELS // 2
        self.scale = LEVELS / (LEVELS - dropped)

    def next(self, shape: torch.Size) -> torch.Tensor:
        """Bool, true with probability `rate`: what is dropped."""
        n = shape.numel()
        return torch.from_numpy(self.bits.random_raw(-(-n // 4)).view(np.int16)[:n]).view(shape) < self.first_kept


def dropped(x: torch.Tensor, rate: float) -> torch.Tensor:
    """As torch.nn.functional.dropout of a model in training."""
    return _Dropout.apply(x, rate, _seed()) if _ours(x, rate) else F.dropout(x, rate)


def attend(q, k, v, mask: torch.Tensor | None, rate: float) -> torch.Tensor:
    """As scaled_dot_product_attention: q (B, H, Q, d), k and v (B, H, T, d), mask bool (B or 1, 1, Q or 1, T) -> (B, H, Q, d)."""
    if _ours(q, rate):
        return _Attention.apply(q, k, v, mask, rate, _seed())
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)


def _ours(x: torch.Tensor, rate: float) -> bool:
    return x.device.type == "cpu" and round(rate * LEVELS) in range(1, LEVELS)


def _seed() -> int:
    return int(torch.randint(1 << 62, ()))


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, rate, seed):
        ctx.of = seed, rate
        return _masked(x, *ctx.of)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return _masked(grad, *ctx.of), None, None


def _masked(x: torch.Tensor, seed: int, rate: float) -> torch.Tensor:
    masks = Masks(seed, rate)
    return (x * masks.scale).masked_fill_(masks.next(x.shape), 0)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, mask, rate, seed):
        q, k, v = (part.contiguous() for part in (q, k, v))
        ctx.save_for_backward(q, k, v, mask)
        ctx.of = seed, rate
        masks, out = Masks(seed, rate), torch.empty_like(q)
        for part in _parts(q, k):
            weights = _weights(q, k, mask, part)
            torch.matmul(weights.masked_fill_(masks.next(weights.shape), 0), v[part], out=out[part])
        return out.mul_(masks.scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        q, k, v, mask = ctx.saved_tensors
        masks = Masks(*ctx.of)
        grad, of_q, of_k, of_v = (grad * masks.scale).contiguous(), *map(torch.empty_like, (q, k, v))
        for part in _parts(q, k):
            weights, above = _weights(q, k, mask, part), grad[part]
            dropped = masks.next(weights.shape)
            torch.matmul(weights.masked_fill(dropped, 0).mT, above, out=of_v[part])
            back = (above @ v[part].mT).masked_fill_(dropped, 0)
            back = torch._softmax_backward_data(back, weights, -1, weights.dtype)
            torch.matmul(back, k[part], out=of_q[part])
            torch.matmul(back.mT, q[part], out=of_k[part])
        root = q.shape[-1] ** -0.5
        return of_q.mul_(root), of_k.mul_(root), of_v, None, None, None


def _parts(q: torch.Tensor, k: torch.Tensor) -> list[slice]:
    """The documents of a batch, a few at a time."""
    b, h, queries, _ = q.shape
    few = max(1, CHUNK // (h * queries * k.shape[2]))
    return [slice(first, first + few) for first in range(0, b, few)]


def _weights(q, k, mask, part: slice) -> torch.Tensor:
    """softmax(q k' / sqrt(d)) of some documents (b, H, Q, T)."""
    scores = (q[part] * q.shape[-1] ** -0.5) @ k[part].mT
    if mask is not None:
        scores.masked_fill_(~(mask[part] if len(mask) > 1 else mask), -torch.inf)
    return torch.softmax(scores, -1)
