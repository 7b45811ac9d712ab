"""Classifier heads on a [CLS] vector: their shapes, their start, their files. D is the hidden size, C the number of classes."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from twostage.encoder.family import read_json
from twostage.encoder.settings import OPTIONAL, POOLINGS, TRUNCATIONS, fits_field
from twostage.errors import BadInput, shown
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
    """The head and the config that save_head wrote. BadInput when the folder holds no head, a damaged one, or one that lies."""
    way = "train it again with train_head.py"
    config = read_json(folder / "config.json", f"{folder} holds no usable head (no config.json): {way}", way)
    try:
        check_settings(config)
        if not isinstance(config.get("encoder", {}), dict):
            raise ValueError("encoder is not a set of settings")
        check_settings(
            {"head": "1C", "hidden_size": 1, "activation": "none", "label_names": ["a"], **config.get("encoder", {})}
        )
        layers = load_file(folder / "head.safetensors")
        layers = {f"{2 * int(name.split('.')[1])}.{name.split('.')[2]}": tensor for name, tensor in layers.items()}
        module = fill_head(config["head"], config["hidden_size"], len(config["label_names"]), config["activation"], layers)
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, SafetensorError) as error:
        raise BadInput(f"{folder} holds no usable head ({shown(error)[:200]}): {way}") from None
    return module, config


def fill_head(head: str, hidden: int, classes: int, activation: str, tensors: dict) -> nn.Sequential:
    """A head with these tensors, copied, by its modules' names ("0.weight", ...). ValueError for missing, odd or endless ones."""
    sizes = layer_sizes(head, hidden, classes)
    wanted = {}
    for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        wanted |= {f"{2 * i}.weight": (n_out, n_in), f"{2 * i}.bias": (n_out,)}
    for name, shape in wanted.items():
        if name not in tensors or tuple(tensors[name].shape) != shape:
            has = f"{tuple(tensors[name].shape)}, not {shape}" if name in tensors else "missing"
            raise ValueError(f"layer {name} is {has}")
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(f"layer {name} holds values that are not finite")
    module = build_head(head, hidden, classes, activation)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            tensor.copy_(tensors[name])
    return module.eval()


def check_settings(config: dict) -> None:
    """ValueError, in words, for settings of a head, or of the encoder below it, that training cannot have written."""
    choices = {
        "head": HEADS, "activation": tuple(ACTIVATIONS), "pooling": POOLINGS, "truncation": TRUNCATIONS,
        "compute_dtype": ("float32", "bfloat16", "float16"),
    }  # fmt: skip
    for name, allowed in choices.items():
        if (name in config or name in ("head", "activation")) and config.get(name) not in allowed:
            raise ValueError(f"{name} is {shown(repr(config.get(name)))[:60]}, not {', '.join(allowed[:-1])} or {allowed[-1]}")
    for name, most in (("hidden_size", 1 << 16), ("max_length", 1 << 20)):
        value = config.get(name, 0 if name == "hidden_size" else 3)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise ValueError(f"{name} is {shown(repr(value))[:60]}, not 1 to {most:,}")
    prefix = config.get("prefix", "")
    if prefix != "" and not fits_field("prefix", prefix):
        raise ValueError(f"prefix is {shown(repr(prefix))[:60]}, not a text to put in front of another")
    layer = config.get("layer", OPTIONAL["layer"])
    if not fits_field("layer", layer):
        raise ValueError(f"layer is {shown(repr(layer))[:60]}, not -1 (the last) or one before it")
    names = config.get("label_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("label_names is not a list of names")
    if len(set(names)) < len(names):
        raise ValueError("label_names names a class twice")
