"""BertModel as it is, doing less: the same numbers for [CLS] with less memory and time, when it trains.

The classifier reads [CLS] of the last layer alone. So that layer needs keys and values of all T tokens, but query, output
projection and feed-forward of one: about 7 % of the work of 12 layers, and most of that layer's memory. Under autocast
query, key and value each keep a half-precision copy of the same input: one copy serves all three. And the feed-forward keeps
its widest tensor twice, before and after GELU: once is enough, GELU is computed again on the way back. Dropout: see dropout.py.
The weights, their names and the dropout rates stay as they are. D hidden, H heads, d = D / H.
"""

from types import MethodType

import torch
import torch.nn.functional as F
from transformers import BertModel

from twostage.finetuning.dropout import attend, dropped


def make_lean(bert: BertModel) -> bool:
    """Let this BertModel's last_hidden_state be (B, 1, D), of [CLS] alone. False, and nothing changed, where it would not be the same.

    It is tried on a few random tokens, with and without padding, since transformers' layers may change under us.
    """
    if getattr(bert.config, "_attn_implementation", None) != "sdpa" or bert.config.is_decoder:
        return False
    last, was_training = bert.encoder.layer[-1], bert.training
    feed_forward = bert.encoder.layer if bert.config.hidden_act == "gelu" else []
    activations = [layer.intermediate.intermediate_act_fn for layer in feed_forward]
    device = bert.embeddings.word_embeddings.weight.device
    ids = torch.arange(12, device=device).reshape(2, 6) % bert.config.vocab_size
    masks = (None, torch.tensor([[1] * 6, [1] * 4 + [0] * 2], device=device))
    bert.eval()
    try:
        with torch.no_grad():
            wanted = [bert(ids, attention_mask=mask).last_hidden_state[:, :1] for mask in masks]
            last.forward = MethodType(_first_token_only, last)
            for layer in bert.encoder.layer[:-1]:
                layer.attention.self.forward = MethodType(_all_tokens, layer.attention.self)
            for layer in feed_forward:
                layer.intermediate.intermediate_act_fn = torch.nn.Identity()
                layer.output.dense.forward = MethodType(_of_gelu, layer.output.dense)
            found = [bert(ids, attention_mask=mask).last_hidden_state for mask in masks]
        same = all(torch.allclose(a, b, atol=1e-4, rtol=1e-4) for a, b in zip(wanted, found, strict=True))
    except (TypeError, AttributeError, RuntimeError, IndexError):
        same = False
    bert.train(was_training)
    if not same:
        last.__dict__.pop("forward", None)
        for layer in bert.encoder.layer[:-1]:
            layer.attention.self.__dict__.pop("forward", None)
        for layer, activation in zip(feed_forward, activations, strict=True):
            layer.intermediate.intermediate_act_fn = activation
            layer.output.dense.__dict__.pop("forward", None)
        return False
    for layer in bert.encoder.layer:
        layer.attention.self.register_forward_pre_hook(_cast_once, with_kwargs=True)
    for module in bert.modules():
        if isinstance(module, torch.nn.Dropout):
            module.forward = MethodType(_dropped, module)
    return True


def _first_token_only(layer, hidden_states, attention_mask=None, *_, **__):
    """BertLayer.forward for the first of T tokens: hidden_states (B, T, D) -> (B, 1, D)."""
    first, hidden_states = hidden_states[:, :1], _half(hidden_states)
    mask = attention_mask[..., :1, :] if attention_mask is not None else None
    attended = layer.attention.output(_attended(layer.attention.self, hidden_states[:, :1], hidden_states, mask), first)
    return layer.output(layer.intermediate(attended), attended)


def _all_tokens(own, hidden_states, attention_mask=None, *_, **__):
    """BertSelfAttention.forward: (B, T, D) -> (B, T, D)."""
    return _attended(own, hidden_states, hidden_states, attention_mask), None


def _attended(own, asking: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """(B, Q, D) of asking (B, Q, D), which look at tokens (B, T, D)."""
    query, key, value = (
        part(x).unflatten(-1, (own.num_attention_heads, -1)).transpose(1, 2)  # (B, H, Q or T, d)
        for part, x in ((own.query, asking), (own.key, tokens), (own.value, tokens))
    )
    mixed = attend(query, key, value, mask, own.dropout.p if own.training else 0.0)
    return mixed.transpose(1, 2).flatten(2)


def _dropped(module: torch.nn.Dropout, x: torch.Tensor) -> torch.Tensor:
    return dropped(x, module.p) if module.training else x


def _of_gelu(dense: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return GeluLinear.apply(_half(x), _half(dense.weight), _half(dense.bias))


class GeluLinear(torch.autograd.Function):
    """linear(gelu(x)), x (..., I) -> (..., D), that keeps x alone for the way back."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(F.gelu(x), weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        rows, wide = grad.flatten(0, -2), F.gelu(x).flatten(0, -2)  # (n, D), (n, I)
        return torch.ops.aten.gelu_backward(grad @ weight, x), rows.t() @ wide, rows.sum(0)


def _cast_once(module, args, kwargs):
    if args:
        return (_half(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": _half(kwargs["hidden_states"])}


def _half(tensor: torch.Tensor) -> torch.Tensor:
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor
