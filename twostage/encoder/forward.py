"""BertModel's forward, and that of its family, with only the arithmetic that the pooled vector needs.

Tokens of all documents of a batch lie in one matrix (total tokens, D) without padding. Beyond that three identities save work:

- In the last layer cls and pooler need query, output projection and feed-forward of [CLS] alone.
- There, keys and values need not exist either (on a CPU): a score q . (W_k x + b_k) is (W_k^T q) . x but for a constant, which
  softmax does not see, and a mixture of values sum p (W_v x + b_v) is W_v (sum p x) + b_v. So attention goes over the tokens
  themselves, with one query a head: 2 D^2 + 2 H T D multiplications a document in place of 2 T D^2 + 2 T D.
- A bias that is added to the residual stream can be added by the norm before it, x' = x + b, since W x = W x' - W b is only another
  bias. Output projection and down projection then add their product to the stream in place.

Shapes: B documents, T tokens, D hidden, H heads, d = D / H.
"""

import threading
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers.activations import ACT2FN

from twostage.encoder.family import pad_of_positions

FEWEST_ROWS = 16  # of a matrix product on a CPU: with fewer, other kernels with other last bits take over


@dataclass
class Layer:
    """One encoder layer: weights as nn.Linear keeps them (out, in); query, key and value in one (3D, D). The biases of `out` and
    `down` are in the norm before each."""

    qkv: tuple[torch.Tensor, torch.Tensor]
    out: torch.Tensor
    norm1: tuple[torch.Tensor, torch.Tensor]
    up: tuple[torch.Tensor, torch.Tensor]
    down: torch.Tensor
    norm2: tuple[torch.Tensor, torch.Tensor]


class FoldedBert:
    """The weights of a BertModel in the dtype and place of the computation, and its forward. pooling: cls, pooler or mean."""

    def __init__(self, model, pooling: str, device: str = "cpu", dtype: torch.dtype = torch.float32):
        def put(*tensors):
            return tuple(tensor.detach().to(device, dtype) for tensor in tensors)

        config, embeddings = model.config, model.embeddings
        self.device, self.dtype, self.pooling = torch.device(device), dtype, pooling
        self.heads, self.width, self.eps = config.num_attention_heads, config.hidden_size, config.layer_norm_eps
        self.activation = ACT2FN[config.hidden_act] if isinstance(config.hidden_act, str) else config.hidden_act
        if config.hidden_act == "gelu":
            self.activation = torch.ops.aten.gelu_  # the same function in place
        self.words = put(embeddings.word_embeddings.weight)[0]
        table = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]  # all in the first segment
        if getattr(config, "use_task_id", False):  # ERNIE's: all of the first task
            table = table + embeddings.task_type_embeddings.weight[0]
        self.positions, self.pad = put(table)[0], pad_of_positions(config.model_type, config.pad_token_id)

        # What the norm before each sublayer adds to the stream: the bias that the sublayer would add after it.
        parts = model.encoder.layer
        added = [part.attention.output.dense.bias for part in parts] + [torch.zeros(self.width)]
        self.norm0 = put(*_norm(embeddings.LayerNorm, added[0]))
        self.layers = []
        for part, before, after in zip(parts, added, added[1:], strict=False):
            own, between = part.attention.self, part.output.dense.bias
            weight, bias = (
                torch.cat([getattr(one, kind) for one in (own.query, own.key, own.value)]) for kind in ("weight", "bias")
            )
            up = part.intermediate.dense
            self.layers.append(Layer(
                qkv=put(weight, _without(bias, weight, before)),
                out=put(part.attention.output.dense.weight)[0],
                norm1=put(*_norm(part.attention.output.LayerNorm, between)),
                up=put(up.weight, _without(up.bias, up.weight, between)),
                down=put(part.output.dense.weight)[0],
                norm2=put(*_norm(part.output.LayerNorm, after)),
            ))  # fmt: skip
        self.pooler = put(model.pooler.dense.weight, model.pooler.dense.bias) if pooling == "pooler" else None
        self.on_gpu = self.device.type == "cuda"
        self.scratch = threading.local()  # a lane's own

    @torch.inference_mode()
    def __call__(self, ids: torch.Tensor, span) -> torch.Tensor:
        """ids (total,) of the tokens of B documents one after another, span where each lies -> vectors (B, D) float32."""
        at = span.positions if self.pad is None else positions_after_pad(ids, span.positions, self.pad)
        x = F.embedding(ids, self.words) + F.embedding(at, self.positions)  # (total, D)
        x = self.normed(x, self.norm0)
        *layers, last = self.layers
        for layer in layers:
            x = self.rest_of_layer(layer, self.attention(layer, x, span), x)
        if self.pooling == "mean":
            return span.mean(self.rest_of_layer(last, self.attention(last, x, span), x))
        first = x[span.first]  # (B, D)
        attend = self.attention_of_first if self.on_gpu else self.attention_without_keys
        x = self.rest_of_layer(last, attend(last, x, first, span), first)
        if self.pooler is not None:
            x = torch.tanh(self.linear(x, self.pooler))
        return x.float()

    def attention(self, layer: Layer, x: torch.Tensor, span) -> torch.Tensor:
        """Every token looks at its document: x (total, D) -> (total, D)."""
        return span.attend(*self.linear(x, layer.qkv).chunk(3, dim=-1), self.heads)

    def attention_of_first(self, layer: Layer, x: torch.Tensor, first: torch.Tensor, span) -> torch.Tensor:
        """[CLS] looks at its document: x (total, D), first (B, D) -> (B, D)."""
        weight, bias = layer.qkv
        d = self.width
        k, v = self.linear(x, (weight[d:], bias[d:])).chunk(2, dim=-1)
        return span.attend_first(self.linear(first, (weight[:d], bias[:d])), k, v, self.heads)

    def attention_without_keys(self, layer: Layer, x: torch.Tensor, first: torch.Tensor, span) -> torch.Tensor:
        """The same, its H queries looking at the tokens themselves: see the module's first lines."""
        (to_q, to_k, to_v), (bias_q, _, bias_v) = (part.chunk(3) for part in layer.qkv)
        b, h = len(first), self.heads
        q = F.linear(filled(first), to_q, bias_q)  # (B or 16, D)
        probes = torch.bmm(by_head(q, h), to_k.view(h, -1, self.width))[:, :b]  # (H, B, D)
        probes = probes.transpose(0, 1).reshape(b * h, self.width)
        mixed = span.attend_first(probes, x, x, heads=1, scale=(self.width // h) ** -0.5)  # (B H, D)
        mixed = filled(mixed.view(b, h, -1)).transpose(0, 1)  # (H, B or 16, D)
        values = torch.bmm(mixed, to_v.view(h, -1, self.width).transpose(1, 2))[:, :b]  # (H, B, d)
        return values.transpose(0, 1).reshape(b, -1) + bias_v

    def rest_of_layer(self, layer: Layer, attended: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Output projection and feed-forward, with their residuals and norms, of rows (n, D). Overwrites x."""
        x = self.normed(self.added(x, attended, layer.out), layer.norm1)
        up = self.activation(self.linear(x, layer.up, self.room(len(x), layer.up[0])))
        return self.normed(self.added(x, up, layer.down), layer.norm2)

    def linear(self, x: torch.Tensor, weights, out: torch.Tensor | None = None) -> torch.Tensor:
        if self.too_few(x):
            return F.linear(filled(x), *weights)[: len(x)]
        return F.linear(x, *weights) if out is None else torch.addmm(weights[1], x, weights[0].t(), out=out)

    def added(self, x: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """x + rows @ weight.T, in x where it can be."""
        if self.too_few(x):
            return torch.addmm(filled(x), filled(rows), weight.t())[: len(x)]
        return torch.addmm(x, rows, weight.t(), out=x)

    def too_few(self, x: torch.Tensor) -> bool:
        return not self.on_gpu and len(x) < FEWEST_ROWS

    def room(self, rows: int, weight: torch.Tensor) -> torch.Tensor | None:
        """A matrix (rows, outputs) that a lane uses again and again: fresh memory of this size costs page faults each time."""
        if self.on_gpu:
            return None  # its allocator keeps what it had
        wanted = rows * len(weight)
        if len(getattr(self.scratch, "flat", ())) < wanted:
            self.scratch.flat = weight.new_empty(wanted)
        return self.scratch.flat[:wanted].view(rows, -1)

    def normed(self, x: torch.Tensor, norm) -> torch.Tensor:
        return F.layer_norm(x, (self.width,), *norm, self.eps)


def positions_after_pad(ids: torch.Tensor, positions: torch.Tensor, pad: int) -> torch.Tensor:
    """Rows (total,) of RoBERTa's table: tokens count from pad + 1 in their document, but for a pad that its text spells out,
    which isn't counted and stands at pad (fairseq's make_positions)."""
    real = (ids != pad).long()
    upto = real.cumsum(0)
    start = torch.arange(len(ids), device=ids.device) - positions  # the row where the document of each token begins
    return (upto - (upto - real)[start]) * real + pad


def filled(x: torch.Tensor) -> torch.Tensor:
    """x with at least FEWEST_ROWS rows: copies of the last one fill it up."""
    short = FEWEST_ROWS - len(x)
    return torch.cat([x, x[-1:].expand(short, *x.shape[1:])]) if short > 0 else x


def by_head(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(n, D) -> (H, n, d)."""
    return x.view(len(x), heads, -1).transpose(0, 1)


def _norm(layer: torch.nn.LayerNorm, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.weight, layer.bias + bias


def _without(bias: torch.Tensor, weight: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """The bias that makes weight @ (x + added) + bias what it was for x."""
    return (bias.double() - weight.double() @ added.double()).float()
