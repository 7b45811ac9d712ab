"""Classifier heads on a [CLS] vector: their shapes, their start, their files. D is the hidden size, C the number of classes."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from twostage.errors import BadInput
from twostage.files import replacing_folder, write_tensors, write_text

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "none": nn.Identity}
HEADS = ("1C", "3C", "3C-big")


def layer_sizes(head: str, hidden: int, classes: int) -> list[int]:
    """[D, C] for 1C, [D, 2D, D, C] for 3C, [D, 4D, D, C] for 3C-big."""
    return {
        "1C": [hidden, classes],
        "3C": [hidden, 2 * hidden, hidden, classes],
        "3C-big": [hidden, 4 * hidden, hidden, classes],
    }[head]


def build_head(head: str, hidden: int, classes: int, activation: str = "relu", seed: int = 0) -> nn.Sequential:
    """A fresh head (B, D) -> logits (B, C): nn.Linear's default initialisation, drawn from the seed alone."""
    sizes = layer_sizes(head, hidden, classes)
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            layers += [ACTIVATIONS[activation]()] * (i > 0) + [nn.Linear(n_in, n_out)]
    return nn.Sequential(*layers)


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    """The linear layers of a head, in order."""
    return [layer for layer in module if isinstance(layer, nn.Linear)]


def save_head(folder: Path, module: nn.Sequential, config: dict) -> None:
    """Write a head as `head.safetensors` and `config.json`.

    `config` holds head, hidden_size, activation, label_names and encoder (the settings its vectors were made with).
    """
    tensors = {
        f"layers.{i}.{part}": getattr(layer, part).detach().to("cpu", torch.float32).contiguous()
        for i, layer in enumerate(linear_layers(module))
        for part in ("weight", "bias")
    }
    with replacing_folder(folder) as partial:
        write_tensors(partial / "head.safetensors", tensors)
        write_text(partial / "config.json", json.dumps(config, ensure_ascii=False, indent=1) + "\n")


def load_head(folder: Path) -> tuple[nn.Sequential, dict]:
    """The head and the config that save_head wrote. BadInput when the folder holds no head, or a damaged one."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        module = build_head(config["head"], config["hidden_size"], len(config["label_names"]), config["activation"])
        tensors = load_file(folder / "head.safetensors")
        with torch.no_grad():
            for i, layer in enumerate(linear_layers(module)):
                layer.weight.copy_(tensors[f"layers.{i}.weight"])
                layer.bias.copy_(tensors[f"layers.{i}.bias"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise BadInput(f"{folder} holds no usable head ({error}): train it again with train_head.py") from None
    return module.eval(), config
