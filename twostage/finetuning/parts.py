"""Which part of the model trains, at which rate."""

from dataclasses import dataclass

import torch

from twostage.finetuning.lean_bert import make_lean
from twostage.models.classifier import BertClassifier


@dataclass(frozen=True)
class TrainingPlan:
    """How one run trains. A rate of None freezes that part; class_weight is (C,) or None for equal weights."""

    encoder_lr: float | None
    head_lr: float | None
    epochs: int
    batch_size: int
    micro_batch: int
    seed: int
    device: torch.device
    dtype: torch.dtype
    warmup_fraction: float = 0.0
    weight_decay: float = 0.0
    class_weight: torch.Tensor | None = None
    activation_checkpointing: bool = False
    checkpoint_minutes: float = 5.0


def prepare(model: BertClassifier, plan: TrainingPlan) -> None:
    """Move the model to its device, let BERT do only what [CLS] needs, freeze what has no rate, checkpoint activations."""
    model.to(plan.device)
    if not model.lean:
        model.lean = make_lean(model.bert)
    model.bert.requires_grad_(plan.encoder_lr is not None)
    model.head.requires_grad_(plan.head_lr is not None)
    model.encoder_frozen = plan.encoder_lr is None
    if plan.activation_checkpointing and not model.encoder_frozen:
        new = getattr(model.bert, "activation_checkpointing_enable", None)  # the name since transformers 5.20
        (new or model.bert.gradient_checkpointing_enable)({"use_reentrant": False})


def param_groups(model: BertClassifier, plan: TrainingPlan) -> list[dict]:
    """A group for each part that trains, at its rate. With weight decay two: biases and LayerNorm never decay."""
    groups = []
    for part, lr in ((model.bert, plan.encoder_lr), (model.head, plan.head_lr)):
        if lr is None:
            continue
        if not plan.weight_decay:
            groups.append({"params": list(part.parameters()), "lr": lr, "weight_decay": 0.0})
            continue
        for matrices, decay in ((True, plan.weight_decay), (False, 0.0)):
            params = [p for p in part.parameters() if (p.ndim > 1) == matrices]
            groups.append({"params": params, "lr": lr, "weight_decay": decay})
    return groups
