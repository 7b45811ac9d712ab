"""BERT with a head on one vector a document: the model that fine-tuning trains, and its files.

Saved as a transformers folder, safetensors only. One linear layer on [CLS] is stored as BertForSequenceClassification, so
transformers' own `pipeline("text-classification")` reads it with no code of ours: its pooler, tanh(P x), is made an
identity by P = eps * I, and the classifier is W / eps. eps is a power of two, so the weights themselves lose nothing;
tanh costs about (eps x)^2 / 3, relatively. Three layers have no native class: `BertClassifier` below, known to transformers' Auto
classes once this module is imported.
"""

import copy
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertPreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import logging

from twostage.errors import BadInput
from twostage.files import write_tensors
from twostage.models.head import build_head, linear_layers

EPS = 2.0**-12


class ClassifierConfig(BertConfig):
    """BertConfig plus `head` (1C, 3C, 3C-big), `activation` and `pooling` (cls, pooler, mean)."""

    model_type = "twostage-bert"
    head: str = "1C"
    activation: str = "relu"
    pooling: str = "cls"


class BertClassifier(BertPreTrainedModel):
    """Token ids (B, T) -> logits (B, C): a head on last_hidden_state[:, 0], or on the pooler's output, or on the mean."""

    config_class = ClassifierConfig
    accepts_loss_kwargs = True  # for the Trainer: the loss is divided by the weight of the global batch, once
    encoder_frozen = False
    lean = False  # set where BERT gives [CLS] alone (lean_bert.py)

    def __init__(self, config: ClassifierConfig):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=config.pooling == "pooler")
        self.head = build_head(config.head, config.hidden_size, config.num_labels, config.activation)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, **_) -> SequenceClassifierOutput:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_frozen):
            out = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        if self.config.pooling == "cls":
            vectors = out.last_hidden_state[:, 0]  # (B, D)
        elif self.config.pooling == "pooler":
            vectors = out.pooler_output
        elif attention_mask is None:
            vectors = out.last_hidden_state.mean(1)
        else:
            mask = attention_mask[:, :, None].to(out.last_hidden_state.dtype)  # (B, T, 1)
            vectors = (out.last_hidden_state * mask).sum(1) / mask.sum(1)
        return SequenceClassifierOutput(logits=self.head(vectors))

    def train(self, mode: bool = True) -> "BertClassifier":
        """A frozen encoder stays in eval mode: no dropout."""
        super().train(mode)
        if self.encoder_frozen:
            self.bert.eval()
        return self


AutoConfig.register("twostage-bert", ClassifierConfig)
AutoModelForSequenceClassification.register(ClassifierConfig, BertClassifier)


def join(
    bert: BertModel, head_module: nn.Sequential, head: str, activation: str, label_names: list[str], pooling="cls"
) -> BertClassifier:
    """The two parts, shared and not copied, as one model. The encoder keeps its own config, and with it its own dropout."""
    config = _with_labels(ClassifierConfig(**_settings(bert.config)), label_names)
    config.head, config.activation, config.pooling = head, activation, pooling
    with torch.device("meta"):  # the parts built here are thrown away at once: give them no memory and no random numbers
        model = BertClassifier(config)
    model.bert, model.head = bert, head_module
    return model


def save_classifier(
    bert: BertModel, head_module: nn.Sequential, label_names: list[str], tokenizer, folder: Path, extra_config: dict
) -> None:
    """Write a transformers folder: config.json, model.safetensors, tokenizer files.

    extra_config: head, activation, pooling, max_length, truncation, and whatever else is worth keeping (encoder settings);
    it is stored under "twostage" in config.json. Tensors are stored in float32.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pooling, head = extra_config.get("pooling", "cls"), extra_config["head"]
    layers = linear_layers(head_module)
    tensors = {f"bert.{name}": tensor for name, tensor in bert.state_dict().items()}
    if len(layers) == 1 and pooling in ("cls", "pooler"):
        config, scale = BertConfig(**_settings(bert.config)), 1.0
        config.architectures = ["BertForSequenceClassification"]
        if pooling == "cls":
            scale, hidden = EPS, bert.config.hidden_size
            tensors["bert.pooler.dense.weight"] = EPS * torch.eye(hidden)
            tensors["bert.pooler.dense.bias"] = torch.zeros(hidden)
        tensors["classifier.weight"] = layers[0].weight / scale
        tensors["classifier.bias"] = layers[0].bias
    else:
        config = ClassifierConfig(**_settings(bert.config))
        config.architectures = ["BertClassifier"]
        config.head, config.activation, config.pooling = head, extra_config.get("activation", "relu"), pooling
        if pooling != "pooler":
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("bert.pooler.")}
        tensors |= {f"head.{name}": tensor for name, tensor in head_module.state_dict().items()}
    _with_labels(config, label_names)
    config.classifier_dropout = 0.0
    config.twostage = {"head": head, "pooling": pooling, **extra_config, "label_names": list(label_names)}
    plain = {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in tensors.items()
    }
    write_tensors(folder / "model.safetensors", plain, {"format": "pt"})
    tokenizer = copy.deepcopy(tokenizer)
    side = "left" if extra_config.get("truncation") == "tail" else "right"
    tokenizer.truncation_side = tokenizer.init_kwargs["truncation_side"] = side  # the latter is what gets written
    if "max_length" in extra_config:
        tokenizer.model_max_length = extra_config["max_length"]
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)


def load_classifier(folder: Path) -> tuple[nn.Module, object, list[str], dict]:
    """What save_classifier wrote: (model, tokenizer, label_names, settings); model(ids, attention_mask=...).logits is (B, C).

    The model is in eval mode on the CPU; settings is extra_config. BadInput where the folder holds no such model.
    """
    folder = Path(folder)
    logging.disable_progress_bar()
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings = raw["twostage"]
        label_names = list(settings["label_names"])
        kind = BertClassifier if raw.get("model_type") == "twostage-bert" else BertForSequenceClassification
        model, loaded = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        if loaded["missing_keys"] or loaded["mismatched_keys"]:
            raise ValueError("model.safetensors lacks weights that the config asks for")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        line = " ".join(str(error).split())[:200]
        raise BadInput(f"{folder} holds no usable classifier ({line}): train or export it again") from None
    return model.eval(), tokenizer, label_names, settings


def _settings(config: BertConfig) -> dict:
    """The encoder's settings without what belongs to the class that it was read from."""
    dropped = ("architectures", "model_type", "transformers_version", "id2label", "label2id", "num_labels", "dtype")
    return {name: value for name, value in config.to_dict().items() if name not in dropped}


def _with_labels(config: BertConfig, label_names: list[str]) -> BertConfig:
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: i for i, name in enumerate(label_names)}
    return config
