"""Models whose softmax can be believed: the last layer divided by the temperature that the run found on val."""

import copy
from pathlib import Path

import torch
from torch import nn

from twostage.models.head import linear_layers, load_head
from twostage.runs.folder import read_run


def cooled(head: nn.Sequential, temperature: float) -> nn.Sequential:
    """A copy of the head that gives logits / T: the most probable class is the same."""
    head = copy.deepcopy(head)
    with torch.no_grad():
        last = linear_layers(head)[-1]
        last.weight.div_(temperature)
        last.bias.div_(temperature)
    return head


def temperature_of(run: Path) -> float:
    """What the run's logits are to be divided by; 1 for a run from before calibration."""
    return (read_run(run).get("calibration") or {}).get("temperature") or 1.0


def load_calibrated(run: Path) -> tuple[nn.Sequential, dict]:
    """The head of a run, calibrated, and its config with the `temperature`.

    BadInput where the run holds no head, or a damaged one.
    """
    head, config = load_head(Path(run) / "head")
    temperature = temperature_of(run)
    return (cooled(head, temperature) if temperature != 1 else head), config | {"temperature": temperature}
