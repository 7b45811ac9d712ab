"""Attention as two batched products with powers of two between them, for CPUs on which scaled_dot_product_attention is slow.

softmax is 2^s / sum 2^s with scores s to base 2 (log2(e) goes into the first product's scale), and the division can wait until the
values are mixed: T x d numbers in place of T x T. The row's largest score is not taken off first: float32 reaches from 2^-126 to
2^127, and where the sums say that a head's scores went further, that head of that document is computed again with softmax. Scores and
powers are float32 whatever the values are in: an exponential in bfloat16 costs more than the narrower product saves.

Zero keys fill up each document to whole registers (their weights are set to zero): so each row's powers are computed alike wherever
they lie, and a document has the same bits in any batch.
"""

import math

import torch

from twostage.encoder.products import batches_by_onednn
from twostage.memory import room

KEYS = 16  # a document's keys are filled up to a multiple of it
SMALL = 4096  # multiplications, up to which torch gives a batched product to other kernels
SHORT = 64  # tokens, below which scaled_dot_product_attention is no slower in half precision
SCORES = 1 << 20  # computed at a time
FEWEST, MOST = 2.0**-60, 2.0**100  # sums of powers in between lose nothing


def suits(x: torch.Tensor, heads: int, queries: int, tokens: int) -> bool:
    """Whether attention of this many queries of a document to its tokens goes this way; x (rows, D) tells place, dtype and width.

    Decided for one head of one document alone, so that no batch, and no part of one, decides otherwise.
    """
    if x.dtype != torch.float32 and tokens < SHORT:
        return False
    return batches_by_onednn(x.device.type, x.dtype) and x.shape[1] // heads * queries * filled_up(tokens) > SMALL


def filled_up(tokens: int) -> int:
    return -(-tokens // KEYS) * KEYS


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, documents: int, heads: int, scale: float) -> torch.Tensor:
    """q (B R, D), k and v (B T, D) of B documents -> softmax(scale q k^T) v of each document and head (B R, D)."""
    r, t, d = len(q) // documents, len(k) // documents, q.shape[1] // heads
    keys_each, number = filled_up(t), documents * heads
    queries = by_head("queries", q, documents, heads, r, torch.float32)
    keys = by_head("keys", k, documents, heads, keys_each, torch.float32)
    values = by_head("values", v, documents, heads, keys_each, q.dtype)
    mixed, sums = room("mixed", (number, r, d), q.dtype), torch.empty(number, r, 1)
    many = max(1, SCORES // (r * keys_each))  # heads at a time: their scores stay near the core
    for at in (slice(a, a + many) for a in range(0, number, many)):
        weights = room("weights", (len(sums[at]), r, keys_each), torch.float32)
        torch.baddbmm(weights, queries[at], keys[at].transpose(1, 2), beta=0, alpha=scale * math.log2(math.e), out=weights)
        weights.exp2_()
        if t < keys_each:
            weights[:, :, t:] = 0
        torch.sum(weights, -1, keepdim=True, out=sums[at])
        if q.dtype != torch.float32:
            weights = room("rounded", weights.shape, q.dtype).copy_(weights)
        torch.bmm(weights, values[at], out=mixed[at])
    fine = (sums > FEWEST) & (sums < MOST)
    if not fine.all():
        for one in (~fine).view(number, -1).any(1).nonzero().flatten().tolist():
            at = slice(one, one + 1)
            mixed[at], sums[at] = by_softmax(queries[at], keys[at, :t], values[at, :t].float(), scale), 1
    attended = torch.empty(documents, r, heads, d, dtype=q.dtype)
    torch.div(mixed.view(documents, heads, r, d), sums.view(documents, heads, r, 1), out=attended.transpose(1, 2))
    return attended.view(documents * r, heads * d)


def by_softmax(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """The same of one head, all in float32 (1, R, d), the largest score of each row taken off first."""
    return torch.bmm((torch.bmm(q, k.transpose(1, 2)) * scale).softmax(-1), v)


def by_head(name: str, x: torch.Tensor, documents: int, heads: int, rows: int, dtype: torch.dtype) -> torch.Tensor:
    """x (B T, D) as (B H, rows, d) in that room, zero after T rows."""
    t, d = len(x) // documents, x.shape[1] // heads
    copied = room(name, (documents, heads, rows, d), dtype)
    copied[:, :, :t] = x.view(documents, t, heads, d).transpose(1, 2)
    copied[:, :, t:] = 0
    return copied.view(documents * heads, rows, d)
