"""BertModel's forward with only the arithmetic that the pooled vector needs.

Tokens of all documents of a batch lie in one matrix (total tokens, D) without padding. In the last layer, cls and pooler
need keys and values of all tokens but query, output projection and feed-forward of [CLS] alone. Shapes: B documents,
T tokens, D hidden, H heads, d = D / H.
"""

import threading
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers.activations import ACT2FN

FEWEST_ROWS = 16  # of a matrix product on a CPU: with fewer, other kernels with other last bits take over


@dataclass
class Layer:
    """One encoder layer: weights as nn.Linear keeps them (out, in); query, key and value in one (3D, D)."""

    qkv: tuple[torch.Tensor, torch.Tensor]
    out: tuple[torch.Tensor, torch.Tensor]
    norm1: torch.nn.LayerNorm
    up: tuple[torch.Tensor, torch.Tensor]
    down: tuple[torch.Tensor, torch.Tensor]
    norm2: torch.nn.LayerNorm


class FoldedBert:
    """The weights of a BertModel in the dtype and place of the computation, and its forward. pooling: cls, pooler or mean."""

    def __init__(self, model, pooling: str, device: str = "cpu", dtype: torch.dtype = torch.float32):
        def put(*tensors):
            return tuple(tensor.detach().to(device, dtype) for tensor in tensors)

        def norm(layer):
            return put(layer.weight, layer.bias)

        config, embeddings = model.config, model.embeddings
        self.device, self.dtype, self.pooling = torch.device(device), dtype, pooling
        self.heads, self.width, self.eps = config.num_attention_heads, config.hidden_size, config.layer_norm_eps
        self.activation = ACT2FN[config.hidden_act] if isinstance(config.hidden_act, str) else config.hidden_act
        if config.hidden_act == "gelu":
            self.activation = torch.ops.aten.gelu_  # the same function in place
        self.words = put(embeddings.word_embeddings.weight)[0]
        position, kind = embeddings.position_embeddings.weight, embeddings.token_type_embeddings.weight[0]
        self.positions = put(position + kind)[0]  # every token is of the first segment
        self.norm0 = norm(embeddings.LayerNorm)
        self.layers = []
        for layer in model.encoder.layer:
            own, attention = layer.attention.self, layer.attention.output
            qkv = [
                torch.cat([getattr(part, kind) for part in (own.query, own.key, own.value)])
                for kind in ("weight", "bias")
            ]
            self.layers.append(Layer(
                put(*qkv), put(attention.dense.weight, attention.dense.bias), norm(attention.LayerNorm),
                put(layer.intermediate.dense.weight, layer.intermediate.dense.bias),
                put(layer.output.dense.weight, layer.output.dense.bias), norm(layer.output.LayerNorm),
            ))  # fmt: skip
        self.pooler = put(model.pooler.dense.weight, model.pooler.dense.bias) if pooling == "pooler" else None
        self.on_gpu = self.device.type == "cuda"
        self.scratch = threading.local()  # a lane's own

    @torch.inference_mode()
    def __call__(self, ids: torch.Tensor, span) -> torch.Tensor:
        """ids (total,) of the tokens of B documents one after another, span where each lies -> vectors (B, D) float32."""
        x = F.embedding(ids, self.words) + F.embedding(span.positions, self.positions)  # (total, D)
        x = self.normed(x, self.norm0)
        for layer in self.layers[:-1]:
            q, k, v = self.linear(x, layer.qkv).chunk(3, dim=-1)
            x = self.rest_of_layer(layer, span.attend(q, k, v, self.heads), x)
        layer, d = self.layers[-1], self.width
        if self.pooling == "mean":
            q, k, v = self.linear(x, layer.qkv).chunk(3, dim=-1)
            x = self.rest_of_layer(layer, span.attend(q, k, v, self.heads), x)
            return span.mean(x)
        weight, bias = layer.qkv
        k, v = self.linear(x, (weight[d:], bias[d:])).chunk(2, dim=-1)
        first = x[span.first]  # (B, D)
        q = self.linear(first, (weight[:d], bias[:d]))
        x = self.rest_of_layer(layer, span.attend_first(q, k, v, self.heads), first)
        if self.pooler is not None:
            x = torch.tanh(self.linear(x, self.pooler))
        return x.float()

    def rest_of_layer(self, layer: Layer, attended: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Output projection and feed-forward, with their residuals and norms, of rows (n, D)."""
        x = self.normed(self.linear(attended, layer.out).add_(x), layer.norm1)
        up = self.activation(self.linear(x, layer.up, self.room(len(x), layer.up[0])))
        return self.normed(self.linear(up, layer.down).add_(x), layer.norm2)

    def linear(self, x: torch.Tensor, weights, out: torch.Tensor | None = None) -> torch.Tensor:
        short = 0 if self.on_gpu else FEWEST_ROWS - len(x)
        if short > 0:
            return F.linear(torch.cat([x, x[-1:].expand(short, -1)]), *weights)[: len(x)]
        return F.linear(x, *weights) if out is None else torch.addmm(weights[1], x, weights[0].t(), out=out)

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
