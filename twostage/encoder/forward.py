"""BertModel's forward, and that of its family, with only the arithmetic that the vectors asked for need.

Tokens of all documents of a batch lie in one matrix (total tokens, D) without padding. Beyond that three identities save work:

- In the last layer that is asked for cls and pooler need query, output projection and feed-forward of [CLS] alone.
- There, keys and values need not exist either (on a CPU): a score q . (W_k x + b_k) is (W_k^T q) . x but for a constant, which
  softmax does not see, and a mixture of values sum p (W_v x + b_v) is W_v (sum p x) + b_v. So attention goes over the tokens
  themselves, with one query a head: 2 D^2 + 2 H T D multiplications a document in place of 2 T D^2 + 2 T D.
- A bias that is added to the residual stream can be added by the norm before it, x' = x + b, since W x = W x' - W b is only another
  bias. Output projection and down projection then add their product to the stream in place.

One pass gives vectors of several layers and poolings (views), each to the bit as if it were asked for alone: as the encoder cut after
that layer gives it. So cls goes the short way in an inner layer too, before all tokens go through it; and where vectors are taken, a norm
of their own leaves out what the layer after adds.

On a CPU the residual stream and the norms are float32 whatever the products compute in. So are the sums of the down projection, where
a kernel can leave them so: of bfloat16's errors this one costs next to nothing to avoid. Where a product must have one number of rows
(products.py), all but attention goes block by block.

Shapes: B documents, T tokens, D hidden, H heads, d = D / H.
"""

import contextlib
import functools
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers.activations import ACT2FN

from twostage.encoder import fused_attention, fused_norm
from twostage.encoder.family import pad_of_positions
from twostage.encoder.processor import has_avx512
from twostage.encoder.products import (
    FEW,
    FEWEST_ROWS,
    Float32ByOneDNN,
    Product,
    any_rows,
    batches_by_onednn,
    block_rows,
    filled,
    in_blocks,
)
from twostage.memory import room

OF_ALL_TOKENS = {"mean", "max"}  # poolings that every token goes into
Taken = tuple[torch.Tensor, torch.Tensor]  # rows of the stream, and the same in the dtype that products take


@dataclass
class Layer:
    """One encoder layer; query, key and value in one product (3D outputs). The biases of `out` and `down` are in the norm before each."""

    number: int  # -1 is the encoder's last
    asked: set[str]  # the poolings of it that are views
    first: tuple[torch.Tensor, torch.Tensor] | None  # query, key and value where [CLS] attends alone
    qkv: Product | None  # not in the last layer, where [CLS] is all that is asked for
    out: Product
    norm1: tuple[torch.Tensor, torch.Tensor]
    up: Product
    down: Product
    own: tuple[torch.Tensor, torch.Tensor]  # the second norm as the checkpoint has it: of views
    norm2: tuple[torch.Tensor, torch.Tensor] | None  # and as the next layer wants it


class FoldedBert:
    """The weights of a BertModel in the dtype and place of the computation, and its forward.

    pooling: one of POOLINGS, of the last layer; or V views, (pooling, layer) each."""

    def __init__(self, model, pooling, device: str = "cpu", dtype: torch.dtype = torch.float32):
        def put(*tensors, dtype=dtype):
            return tuple(tensor.detach().to(device, dtype) for tensor in tensors)

        config, embeddings = model.config, model.embeddings
        self.device, self.dtype = torch.device(device), dtype
        self.views = [(pooling, -1)] if isinstance(pooling, str) else list(pooling)
        self.on_gpu = self.device.type == "cuda"
        self.float32_by_onednn = dtype == torch.float32 and batches_by_onednn(self.device.type)
        self.any_rows = any_rows(self.device.type, dtype)
        stream = dtype if self.on_gpu else torch.float32  # of the residual stream and the norms
        self.block = block_rows(config.hidden_size)
        self.heads, self.width, self.eps = config.num_attention_heads, config.hidden_size, config.layer_norm_eps
        self.fused_norm = fused_norm.suits(self.device.type, dtype, self.width)
        fused_attention.suits(self.device.type, dtype, self.width // self.heads)  # its code is made here, not in each lane
        if {pooling for pooling, _ in self.views} - OF_ALL_TOKENS:
            fused_attention.suits(self.device.type, dtype, self.width)  # and that of [CLS] without keys
        self.activation = ACT2FN[config.hidden_act] if isinstance(config.hidden_act, str) else config.hidden_act
        if gelu := config.hidden_act == "gelu":
            self.activation = lambda up: up  # a part of the product
        self.words = put(embeddings.word_embeddings.weight, dtype=stream)[0]
        table = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]  # all in the first segment
        if getattr(config, "use_task_id", False):  # ERNIE's: all of the first task
            table = table + embeddings.task_type_embeddings.weight[0]
        self.positions, self.pad = put(table, dtype=stream)[0], pad_of_positions(config.model_type, config.pad_token_id)

        # What the norm before each sublayer adds to the stream: the bias that the sublayer would add after it.
        every = len(model.encoder.layer)
        parts = model.encoder.layer[: every + 1 + max(layer for _, layer in self.views)]
        added = [part.attention.output.dense.bias for part in parts]
        self.norm0 = put(*_norm(embeddings.LayerNorm, added[0]), dtype=stream)
        self.layers = []
        for number, (part, before, after) in enumerate(zip(parts, added, [*added[1:], None], strict=True), -every):
            asked = {pooling for pooling, layer in self.views if layer == number}
            own, between = part.attention.self, part.output.dense.bias
            weight, bias = (
                torch.cat([getattr(one, kind) for one in (own.query, own.key, own.value)]) for kind in ("weight", "bias")
            )
            qkv, up = put(weight, _without(bias, weight, before)), part.intermediate.dense
            norm = part.output.LayerNorm
            self.layers.append(Layer(
                number, asked,
                first=qkv if asked & {"cls", "pooler"} else None,
                qkv=Product(*qkv) if after is not None or asked & OF_ALL_TOKENS else None,
                out=Product(*put(part.attention.output.dense.weight)),
                norm1=put(*_norm(part.attention.output.LayerNorm, between), dtype=stream),
                up=Product(*put(up.weight, _without(up.bias, up.weight, between)), gelu=gelu),
                down=Product(*put(part.output.dense.weight), sums=True),
                own=put(norm.weight, norm.bias, dtype=stream),
                norm2=None if after is None else put(*_norm(norm, after), dtype=stream),
            ))  # fmt: skip
        pooler = model.pooler.dense if ("pooler", -1) in self.views else None
        self.pooler = pooler and Product(*put(pooler.weight, pooler.bias))
        products = [product for layer in self.layers for product in (layer.qkv, layer.out, layer.up, layer.down) if product]
        fewest = 1 if all(product.fused for product in products) else FEWEST_ROWS
        self.step = fewest if self.any_rows else self.block  # rows of a product of tokens are a multiple of it

    @torch.inference_mode()
    def __call__(self, ids: torch.Tensor, span) -> torch.Tensor:
        """ids (total,) of the tokens of B documents one after another, span where each lies -> vectors (B, D) float32; of several
        views (V, B, D)."""
        with Float32ByOneDNN() if self.float32_by_onednn else contextlib.nullcontext():
            return self.vectors(ids, span)

    def vectors(self, ids: torch.Tensor, span) -> torch.Tensor:
        """The same, by whatever kernels torch is set to."""
        at = span.positions if self.pad is None else positions_after_pad(ids, span.positions, self.pad)
        x = F.embedding(ids, self.words) + F.embedding(at, self.positions)  # (total, D)
        blocks, found = [self.as_taken(self.normed(part, self.norm0)) for part in self.cut(x)], {}
        for layer in self.layers:
            if layer.first is not None:
                found["cls", layer.number] = first = self.first_of_layer(layer, *self.whole(blocks, len(ids)), span)
                if "pooler" in layer.asked:
                    found["pooler", layer.number] = self.few(self.pooled, first)
            if layer.qkv is None:
                break
            blocks, tokens = self.one_layer(layer, blocks, span)
            if tokens:
                tokens = torch.cat(tokens)[: len(ids)]
                found |= {(pooling, layer.number): getattr(span, pooling)(tokens) for pooling in layer.asked & OF_ALL_TOKENS}
        vectors = [found[view].float() for view in self.views]
        return torch.stack(vectors) if len(vectors) > 1 else vectors[0]

    def one_layer(self, layer: Layer, blocks: list[Taken], span) -> tuple[list[Taken], list[torch.Tensor]]:
        """Every token looks at its document, then goes on alone: blocks of the stream (n, D) each -> the same for the next layer,
        and as views have them; none where nobody asks."""
        into = qkv_room if len(blocks) == 1 and not self.on_gpu else None
        q, k, v = self.joined([layer.qkv(taken, into) for _, taken in blocks]).chunk(3, dim=-1)  # (total or more, D) each
        attended = span.attend(q[: len(span.positions)], k, v, self.heads)
        asked = bool(layer.asked & OF_ALL_TOKENS)
        norms = [layer.own] * asked + [layer.norm2] * (layer.norm2 is not None)
        stream, tokens = [], []
        for a, (x, _) in zip(self.cut(attended), blocks, strict=True):
            normed = self.added(*self.feed_forward(layer, a, x), layer.down, *norms)
            tokens += [x for x, _ in normed[:asked]]
            stream += normed[asked:]
        return stream, tokens

    def first_of_layer(self, layer: Layer, x: torch.Tensor, taken: torch.Tensor, span) -> torch.Tensor:
        """What the layer gives for [CLS] alone: the stream (total, D) and as products take it, which stay as they are -> (B, D)."""
        first = x[span.first]
        attend = self.attention_of_first if self.on_gpu else self.attention_without_keys
        attended = attend(layer.first, taken, first.to(self.dtype), span)

        def rest(a, x):
            ((x, _),) = self.added(*self.feed_forward(layer, a, x), layer.down, layer.own)
            return x

        return self.few(rest, attended, first)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.pooler(x.to(self.dtype)))

    def attention_of_first(self, qkv, x: torch.Tensor, first: torch.Tensor, span) -> torch.Tensor:
        """[CLS] looks at its document: x (total, D), first (B, D) -> (B, D)."""
        weight, bias = qkv
        d = self.width
        k, v = F.linear(x, weight[d:], bias[d:]).chunk(2, dim=-1)
        return span.attend_first(F.linear(first, weight[:d], bias[:d]), k, v, self.heads)

    def attention_without_keys(self, qkv, x: torch.Tensor, first: torch.Tensor, span) -> torch.Tensor:
        """The same, its H queries looking at the tokens themselves: see the module's first lines."""
        (to_q, to_k, to_v), (bias_q, _, bias_v) = (part.chunk(3) for part in qkv)
        b, h = len(first), self.heads

        def probes(first):  # (n, D) -> (n, H, D)
            return torch.bmm(by_head(F.linear(first, to_q, bias_q), h), to_k.view(h, -1, self.width)).transpose(0, 1)

        def values(mixed):  # (n, H, D) -> (n, D)
            return torch.bmm(mixed.transpose(0, 1), to_v.view(h, -1, self.width).transpose(1, 2)).transpose(0, 1).flatten(1)

        asked = self.few(probes, first).reshape(b * h, self.width)
        mixed = span.attend_first(asked, x, x, heads=1, scale=(self.width // h) ** -0.5)  # (B H, D)
        return self.few(values, mixed.view(b, h, -1)) + bias_v

    def feed_forward(self, layer: Layer, attended: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Output projection, norm and up projection of rows (n, D): the stream, and what goes down to it again. Overwrites x."""
        ((x, taken),) = self.added(x, attended, layer.out, layer.norm1)
        return x, self.activation(layer.up(taken, None if self.on_gpu else up_room))

    def added(self, x: torch.Tensor, rows: torch.Tensor, product: Product, *norms) -> list[Taken]:
        """norm(x + product(rows)) of rows (n, D), by each of the norms. Overwrites x."""
        if not self.fused_norm:
            x = product.added(x, rows)
            return [self.as_taken(self.normed(x, norm)) for norm in norms]
        y, (*others, last) = product(rows, added_room), norms
        apart = [fused_norm.add_norm(x, y, norm, self.eps, self.dtype, torch.empty_like(x)) for norm in others]
        return [*apart, fused_norm.add_norm(x, y, last, self.eps, self.dtype)]

    def as_taken(self, x: torch.Tensor) -> Taken:
        return x, x.to(self.dtype)

    def whole(self, blocks: list[Taken], rows: int) -> Taken:
        """The same as one block of so many rows."""
        return tuple(torch.cat(parts)[:rows] for parts in zip(*blocks, strict=True))

    def cut(self, x: torch.Tensor, rows: int = 0) -> list[torch.Tensor]:
        """x (n, …) in blocks of as many rows as a product must have: see products.py."""
        if self.on_gpu:
            return [x]
        if not self.any_rows:
            return in_blocks(x, rows or self.block)
        few_float32 = rows and self.dtype == torch.float32 and not has_avx512()
        return in_blocks(x, FEWEST_ROWS) if few_float32 else [filled(x, FEWEST_ROWS if rows else self.step)]

    def joined(self, blocks: list[torch.Tensor]) -> torch.Tensor:
        """Blocks (n, width) in one matrix."""
        if len(blocks) == 1:
            return blocks[0]
        rows, (_, width) = sum(map(len, blocks)), blocks[0].shape
        return torch.cat(blocks, out=qkv_room(rows, width, self.dtype))

    def few(self, compute, *inputs: torch.Tensor) -> torch.Tensor:
        """compute(*inputs) of one row a document."""
        parts = zip(*(self.cut(x, FEW) for x in inputs), strict=True)
        return torch.cat([compute(*part) for part in parts])[: len(inputs[0])]

    def normed(self, x: torch.Tensor, norm) -> torch.Tensor:
        return F.layer_norm(x, (self.width,), *norm, self.eps)


def matrix(name: str, rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    return room((name, dtype), (rows, width), dtype)


qkv_room, up_room, added_room = (functools.partial(matrix, name) for name in ("qkv", "up", "added"))


def positions_after_pad(ids: torch.Tensor, positions: torch.Tensor, pad: int) -> torch.Tensor:
    """Rows (total,) of RoBERTa's table: tokens count from pad + 1 in their document, but for a pad that its text spells out,
    which isn't counted and stands at pad (fairseq's make_positions)."""
    real = (ids != pad).long()
    upto = real.cumsum(0)
    start = torch.arange(len(ids), device=ids.device) - positions  # the row where the document of each token begins
    return (upto - (upto - real)[start]) * real + pad


def by_head(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(n, D) -> (H, n, d)."""
    return x.view(len(x), heads, -1).transpose(0, 1)


def _norm(layer: torch.nn.LayerNorm, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.weight, layer.bias + bias


def _without(bias: torch.Tensor, weight: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """The bias that makes weight @ (x + added) + bias what it was for x."""
    return (bias.double() - weight.double() @ added.double()).float()
