"""A linear layer on [CLS], written so that transformers' own classifiers compute it, and read back.

Those are tanh(P x) behind another linear layer. P is made diagonal and small, eps_j for each of the D dimensions, and the second
layer W_cj / eps_j: tanh is then a straight line, but for (eps_j x_j)^2 / 3 relatively. Each eps_j is a power of two, so the weights
themselves lose nothing. It is 2^-12, unless W_cj / eps_j would leave float16: then as much larger as that takes, and at most 2^-8.
D hidden, C classes.
"""

import torch

from twostage.encoder.family import POSITIONS_AFTER_PAD

EPS = 2.0**-12
LARGEST_EPS = 2.0**-8  # beyond it tanh would bend vectors
FLOAT16 = 2.0**15  # what W / eps stays below: the largest number of float16 is 65,504


def small_factors(weight: torch.Tensor) -> torch.Tensor:
    """eps (D,) for a layer's weight (C, D)."""
    needed = torch.exp2(torch.ceil(torch.log2(weight.abs().amax(0).clamp_min(1e-30) * (1 + 2**-10) / FLOAT16)))
    return needed.clamp(EPS, LARGEST_EPS)


def native_names(kind: str, base: str) -> tuple[str, str]:
    """What transformers' classifier of that architecture calls its first and its second layer; base: its encoder's prefix."""
    if kind in POSITIONS_AFTER_PAD:  # RoBERTa and its kin
        return "classifier.dense", "classifier.out_proj"
    return f"{base}.pooler.dense", "classifier"


def fold(layer: torch.nn.Linear, pooler: torch.nn.Module | None, names: tuple[str, str]) -> dict[str, torch.Tensor]:
    """The tensors of both layers: `layer` on the pooler's output as it is, or on [CLS] where there is no pooler."""
    first, second = names
    if pooler is not None:
        found = {f"{first}.weight": pooler.dense.weight, f"{first}.bias": pooler.dense.bias}
        return found | {f"{second}.weight": layer.weight, f"{second}.bias": layer.bias}
    weight = layer.weight.detach().to("cpu", torch.float32)
    eps = small_factors(weight)
    found = {f"{first}.weight": torch.diag(eps), f"{first}.bias": torch.zeros_like(eps)}
    return found | {f"{second}.weight": weight / eps, f"{second}.bias": layer.bias}


def unfold(tensors: dict[str, torch.Tensor], pooler: bool, names: tuple[str, str]) -> dict[str, torch.Tensor]:
    """weight (C, D) and bias (C,) of the layer that `fold` took; ValueError where the first layer is no such diagonal."""
    first, second = names
    weight, bias = tensors[f"{second}.weight"].float(), tensors[f"{second}.bias"].float()
    if not pooler:
        square = tensors[f"{first}.weight"].float()
        eps = square.diagonal()
        if not torch.equal(torch.diag(eps), square) or tensors[f"{first}.bias"].any() or len(eps) != weight.shape[-1]:
            raise ValueError("its pooler was trained on: it is no longer a head on [CLS] alone")
        weight = weight * eps
    return {"0.weight": weight, "0.bias": bias}
