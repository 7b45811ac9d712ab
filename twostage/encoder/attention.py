"""Where the documents of a batch lie in its token matrix, and attention within each of them.

A span has positions (total,), first (B,) the rows of the [CLS] tokens, attend for query, key and value of all rows, attend_first
for a query of [CLS] alone (or several, one after another), and mean and max for vectors (B, D) float32 out of (total, D).
"""

import functools
import itertools

import torch
from torch.nn import functional as F

from twostage.encoder import fused_attention
from twostage.encoder.processor import lanes

LANES = lanes() or 8  # numbers in a register: torch's attention takes the rest one by one


class EqualSpan:
    """B documents of T tokens each: no padding, no mask."""

    def __init__(self, documents: int, tokens: int, device="cpu"):
        self.b, self.t = documents, tokens
        self.positions = torch.arange(tokens, device=device).repeat(documents)
        self.first = torch.arange(documents, device=device) * tokens
        self.over = -tokens % LANES if torch.device(device).type == "cpu" else 0
        self.mask = torch.zeros(tokens + self.over)
        self.mask[tokens:] = -torch.inf

    def attend(self, q, k, v, heads: int) -> torch.Tensor:
        """q, k, v (B T, D), k and v with any finite rows after them -> (B T, D).

        Keys go on to a multiple of LANES, into the rows that follow: the mask takes them out again.
        """
        k, v = (self._keys(part, heads) for part in (k, v))
        mask = self.mask.to(q.dtype).view(1, 1, 1, -1) if self.over else None
        attended = F.scaled_dot_product_attention(self._by_head(q, heads), k, v, attn_mask=mask)  # (B, H, T, d)
        return attended.transpose(1, 2).flatten(2).flatten(0, 1)

    def attend_first(self, q, k, v, heads: int, scale: float | None = None) -> torch.Tensor:
        """The same for one query a document or several, one after another, and no row too many."""
        q, k, v = (self._by_head(part, heads) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, scale=scale)  # (B, H, queries, d)
        return attended.transpose(1, 2).flatten(2).flatten(0, 1)

    def _by_head(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        return x.view(self.b, -1, heads, x.shape[-1] // heads).transpose(1, 2)

    def _keys(self, x: torch.Tensor, heads: int) -> torch.Tensor:
        """(B, H, T + over, d), each document's last rows being the next one's first."""
        rows = self.b * self.t + self.over
        if len(x) < rows:
            x = F.pad(x, (0, 0, 0, rows - len(x)))
        row, d = x.stride(0), x.shape[1] // heads
        return x.as_strided((self.b, heads, self.t + self.over, d), (self.t * row, d, row, 1))

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(self.b, self.t, -1).float().mean(1)

    def max(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(self.b, self.t, -1).float().amax(1)


class GroupedSpan:
    """Groups of documents, one token length in each, one group after another: (documents, tokens) a group. No padding, no
    mask: products take all rows at once, attention one document after another or, by torch, group by group."""

    def __init__(self, groups: list[tuple[int, int]]):
        self.groups = groups
        documents, tokens = torch.tensor(groups).unbind(1)
        lengths = tokens.repeat_interleave(documents)  # (B,)
        self.longest = max(tokens for _, tokens in groups)
        self.starts = F.pad(lengths.cumsum(0), (1, 0))  # (B + 1,)
        self.first = self.starts[:-1]
        self.positions = torch.arange(int(self.starts[-1])) - self.first.repeat_interleave(lengths)

    @functools.cached_property
    def parts(self) -> list[EqualSpan]:
        return [EqualSpan(*group) for group in self.groups]

    @property
    def rows(self) -> list[int]:
        return [documents * tokens for documents, tokens in self.groups]

    def attend(self, q, k, v, heads: int) -> torch.Tensor:
        if fused(q, heads):
            return fused_attention.attend(q, k, v, self.starts, self.starts, self.longest, heads)
        ends = itertools.accumulate(self.rows)
        places = zip(self.parts, ends, q.split(self.rows), strict=True)
        return torch.cat([part.attend(own, k[end - len(own) :], v[end - len(own) :], heads) for part, end, own in places])

    def attend_first(self, q, k, v, heads: int, scale: float | None = None) -> torch.Tensor:
        each = len(q) // len(self.first)  # queries a document
        if fused(q, heads):
            starts = torch.arange(len(self.starts)) * each
            return fused_attention.attend(q, k, v, starts, self.starts, self.longest, heads, scale)
        pieces = q.split([documents * each for documents, _ in self.groups]), k.split(self.rows), v.split(self.rows)
        return torch.cat([part.attend_first(*qkv, heads, scale) for part, *qkv in zip(self.parts, *pieces, strict=True)])

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part.mean(rows) for part, rows in zip(self.parts, x.split(self.rows), strict=True)])

    def max(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part.max(rows) for part, rows in zip(self.parts, x.split(self.rows), strict=True)])


class PackedSpan:
    """Documents of any lengths one after another, by the variable-length flash attention of CUDA (half precision)."""

    def __init__(self, lengths: torch.Tensor, longest: int, device):
        self.lengths, self.longest, self.b = lengths.to(device, torch.int32, non_blocking=True), longest, len(lengths)
        ends = self.lengths.cumsum(0, dtype=torch.int32)
        self.ends = F.pad(ends, (1, 0))  # (B + 1,)
        self.first = self.ends[:-1].long()
        total = int(lengths.sum())
        self.document = torch.repeat_interleave(
            torch.arange(self.b, device=device), self.lengths, output_size=total
        )  # (total,)
        self.positions = torch.arange(total, device=device) - self.first[self.document]
        self.one_each = torch.arange(self.b + 1, device=device, dtype=torch.int32)

    def attend(self, q, k, v, heads: int) -> torch.Tensor:
        return self._attend(q, k, v, heads, self.ends, self.longest)

    def attend_first(self, q, k, v, heads: int) -> torch.Tensor:
        return self._attend(q, k, v, heads, self.one_each, 1)

    def _attend(self, q, k, v, heads, ends, longest):
        from torch.nn.attention.varlen import varlen_attn

        q, k, v = (part.unflatten(-1, (heads, -1)) for part in (q, k, v))  # (total, H, d)
        return varlen_attn(q, k, v, ends, self.ends, longest, self.longest).flatten(1)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        # index_add_ is not deterministic on CUDA: the order in which it adds differs from run to run
        return torch.segment_reduce(x.float(), "mean", lengths=self.lengths.long(), axis=0, unsafe=True)

    def max(self, x: torch.Tensor) -> torch.Tensor:
        return torch.segment_reduce(x.float(), "max", lengths=self.lengths.long(), axis=0, unsafe=True)


class PaddedSpan:
    """Documents of different lengths where there is no variable-length attention: padded inside attention alone."""

    def __init__(self, lengths: torch.Tensor, longest: int, device):
        self.lengths, self.t, self.b = lengths.to(device), longest, len(lengths)
        columns = torch.arange(longest, device=device)
        self.real = columns < self.lengths[:, None]  # (B, T)
        self.rows = self.real.flatten().nonzero().squeeze(1)
        self.positions = columns.repeat(self.b)[self.rows]
        self.first = self.lengths.cumsum(0) - self.lengths
        self.document = torch.repeat_interleave(torch.arange(self.b, device=device), self.lengths)
        self.mask = self.real[:, None, None]  # (B, 1, 1, T)

    def _padded(self, part, heads):
        part = part[: len(self.rows)]  # rows that fill up a product may follow
        full = part.new_zeros(self.b * self.t, part.shape[-1]).index_copy_(0, self.rows, part)
        return full.view(self.b, self.t, heads, -1).transpose(1, 2)

    def attend(self, q, k, v, heads: int) -> torch.Tensor:
        q, k, v = (self._padded(part, heads) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        return attended.transpose(1, 2).flatten(2).flatten(0, 1)[self.rows]

    def attend_first(self, q, k, v, heads: int, scale: float | None = None) -> torch.Tensor:
        q = q.view(self.b, -1, heads, q.shape[-1] // heads).transpose(1, 2)
        k, v = self._padded(k, heads), self._padded(v, heads)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, scale=scale)
        return attended.transpose(1, 2).flatten(2).flatten(0, 1)

    mean, max = PackedSpan.mean, PackedSpan.max


def fused(q: torch.Tensor, heads: int) -> bool:
    return fused_attention.suits(q.device.type, q.dtype, q.shape[1] // heads)


def has_varlen(device: torch.device, dtype: torch.dtype, heads: int, width: int) -> bool:
    """Whether variable-length attention works here for heads of width / heads: tried on two tokens."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    try:
        span = PackedSpan(torch.tensor([1, 1]), 1, device)
        part = torch.ones(2, width, device=device, dtype=dtype)
        with torch.cuda.device(device), torch.inference_mode():
            return bool(torch.isfinite(span.attend(part, part, part, heads)).all())
    except (ImportError, RuntimeError, TypeError):
        return False
