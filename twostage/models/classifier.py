"""An encoder of BERT's family with a head on one vector a document: the model that fine-tuning trains, and its files.

Saved as a transformers folder, safetensors only. One linear layer on [CLS] or the pooler's output is stored as the architecture's own
class (BertForSequenceClassification, ...), so transformers' `pipeline("text-classification")` reads it with no code of ours: see
folding.py. Three layers, the mean and the maximum have no native class: `BertClassifier` below, known to transformers' Auto classes
once this module is imported. Whichever it is, what is loaded here is a BertClassifier.
"""

import copy
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from twostage.encoder.checkpoint import refuse_adapter
from twostage.encoder.family import FAMILY, FORWARD_SETTINGS, SIZES, checked_config, read_json
from twostage.encoder.weights import build, encoder_weights, native_config, stored_tensors
from twostage.errors import BadInput, shown
from twostage.files import write_tensors
from twostage.models.folding import fold, native_names, unfold
from twostage.models.head import build_head, check_settings, fill_head, linear_layers


class ClassifierConfig(BertConfig):
    """BertConfig plus `head` (1C, 3C, 3C-big), `activation`, `pooling` (cls, pooler, mean, max) and the architecture of the encoder."""

    model_type = "twostage-bert"
    head: str = "1C"
    activation: str = "relu"
    pooling: str = "cls"
    encoder_type: str = "bert"  # its model_type
    use_task_id: bool = False  # ERNIE's
    task_type_vocab_size: int = 3


class BertClassifier(BertPreTrainedModel):
    """Token ids (B, T) -> logits (B, C): a head on last_hidden_state[:, 0], the pooler's output, the mean or the maximum."""

    config_class = ClassifierConfig
    accepts_loss_kwargs = True  # for the Trainer: the loss is divided by the weight of the global batch, once
    encoder_frozen = False
    lean = False  # set where BERT gives [CLS] alone (lean_bert.py)

    def __init__(self, config: ClassifierConfig):
        super().__init__(config)
        encoder = getattr(transformers, f"{FAMILY[config.encoder_type]}Model")
        own = native_config(_settings(config), attn_implementation=config._attn_implementation)
        self.bert = encoder(own, add_pooling_layer=config.pooling == "pooler")
        self.head = build_head(config.head, config.hidden_size, config.num_labels, config.activation)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, **_) -> SequenceClassifierOutput:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_frozen):
            out = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        if self.config.pooling == "cls":
            vectors = out.last_hidden_state[:, 0]  # (B, D)
        elif self.config.pooling == "pooler":
            vectors = out.pooler_output
        elif self.config.pooling == "max":
            hidden = out.last_hidden_state
            if attention_mask is not None:
                hidden = hidden.masked_fill(attention_mask[:, :, None] == 0, float("-inf"))
            vectors = hidden.amax(1)
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


def join(bert, head_module: nn.Sequential, head: str, activation: str, label_names: list[str], pooling="cls") -> BertClassifier:
    """The two parts, shared and not copied, as one model. The encoder keeps its own config, and with it its own dropout."""
    config = _config(bert.config, head, activation, pooling, label_names)
    with torch.device("meta"):  # the parts built here are thrown away at once: give them no memory and no random numbers
        model = BertClassifier(config)
    model.bert, model.head = bert, head_module
    return model


def save_classifier(
    bert, head_module: nn.Sequential, label_names: list[str], tokenizer, folder: Path, extra_config: dict
) -> None:
    """Write a transformers folder: config.json, model.safetensors, tokenizer files; then read it back and compare.

    extra_config: head, activation, pooling, max_length, truncation, and whatever else is worth keeping (encoder settings);
    it is stored under "twostage" in config.json. Tensors are stored in float32. BadInput where what was written reads otherwise.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pooling, head, kind = extra_config.get("pooling", "cls"), extra_config["head"], _kind(bert.config)
    layers, encoder = linear_layers(head_module), dict(bert.state_dict())
    if pooling != "pooler":
        encoder = {name: tensor for name, tensor in encoder.items() if not name.startswith("pooler.")}
    if len(layers) == 1 and pooling in ("cls", "pooler"):
        native = getattr(transformers, f"{FAMILY[kind]}ForSequenceClassification")
        names, config = native_names(kind, native.base_model_prefix), native_config(_settings(bert.config))
        config.architectures = [native.__name__]
        tensors = {f"{native.base_model_prefix}.{name}": tensor for name, tensor in encoder.items() if "pooler." not in name}
        tensors |= fold(layers[0], bert.pooler if pooling == "pooler" else None, names)
    else:
        config = _config(bert.config, head, extra_config.get("activation", "relu"), pooling, label_names)
        config.architectures = ["BertClassifier"]
        tensors = {f"bert.{name}": tensor for name, tensor in encoder.items()}
        tensors |= {f"head.{name}": tensor for name, tensor in head_module.state_dict().items()}
    _with_labels(config, label_names)
    config.classifier_dropout = 0.0
    config.problem_type = "single_label_classification"  # pipeline() then gives probabilities, whatever the encoder was before
    config.twostage = {"head": head, "pooling": pooling, **extra_config, "label_names": list(label_names)}
    plain = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    write_tensors(folder / "model.safetensors", plain, {"format": "pt"})
    tokenizer = copy.deepcopy(tokenizer)
    side = "left" if extra_config.get("truncation") == "tail" else "right"
    tokenizer.truncation_side = tokenizer.init_kwargs["truncation_side"] = side  # the latter is what gets written
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "right"  # positions count from the left
    if "max_length" in extra_config:
        tokenizer.model_max_length = extra_config["max_length"]
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    read_back(folder, bert, head_module)


def read_back(folder: Path, bert, head_module: nn.Sequential) -> None:
    """BadInput where the model in `folder` is not these two parts, to the last bit in float32."""
    model = load_classifier(folder)[0]
    for mine, theirs in ((model.bert, bert), (model.head, head_module)):
        wanted = theirs.state_dict()
        for name, tensor in mine.state_dict().items():
            if not torch.equal(tensor, wanted[name].detach().to("cpu", torch.float32)):
                raise BadInput(f"{folder}: {name} reads back differently from what was written; check the disk, and try again")


def load_classifier(folder: Path) -> tuple[BertClassifier, object, list[str], dict]:
    """What save_classifier wrote: (model, tokenizer, label_names, settings); model(ids, attention_mask=...).logits is (B, C).

    The model is in eval mode on the CPU, its weights copied off their file; settings is extra_config. BadInput where the folder
    holds no such model.
    """
    folder = Path(folder)
    again = "train or export it again"
    refuse_adapter(folder)
    raw = read_json(folder / "config.json", f"{folder}: no config.json; {again}", again)
    settings = raw.get("twostage")
    try:
        if not isinstance(settings, dict):
            raise ValueError("its config.json says nothing about twostage")
        ours = raw.get("model_type") == "twostage-bert"
        config = checked_config({**raw, "model_type": raw.get("encoder_type", "bert") if ours else raw["model_type"]}, folder)
        check_settings({"hidden_size": config["hidden_size"], "pooling": "cls", "activation": "relu", **settings})
        head, pooling, names = settings["head"], settings.get("pooling", "cls"), settings["label_names"]
        activation, kind = settings.get("activation", "relu"), config["model_type"]
        stored = stored_tensors([folder / "model.safetensors"])
        if ours:
            layers = {name.removeprefix("head."): tensor for name, tensor in stored.items() if name.startswith("head.")}
        else:
            base = getattr(transformers, f"{FAMILY[kind]}ForSequenceClassification").base_model_prefix
            first, second = native_names(kind, base)
            layers = unfold(stored, pooling == "pooler", (first, second))
            for part in ("weight", "bias"):
                stored[f"{base}.pooler.dense.{part}"] = stored[f"{first}.{part}"]
        module = fill_head(head, config["hidden_size"], len(names), activation, layers)
        weights = encoder_weights(stored, config, folder, pooling == "pooler")
        bert = build("Model", config, weights, folder, add_pooling_layer=pooling == "pooler")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        line = shown(" ".join(str(error).split()))[:200]
        raise BadInput(f"{folder} holds no usable classifier ({line}): {again}") from None
    return join(bert, module, head, activation, names, pooling).eval(), tokenizer, list(names), settings


def _kind(config) -> str:
    return getattr(config, "encoder_type", config.model_type)


def _settings(config) -> dict:
    """Of an encoder's settings those that its forward and its training ask for: no problem_type, no class that it was before."""
    kept = {name: getattr(config, name) for name in (*SIZES, *FORWARD_SETTINGS) if hasattr(config, name)}
    return {**kept, "model_type": _kind(config)}


def _config(encoder, head: str, activation: str, pooling: str, label_names: list[str]) -> ClassifierConfig:
    settings = _settings(encoder)
    kind = settings.pop("model_type")
    config = ClassifierConfig(**settings, head=head, activation=activation, pooling=pooling, encoder_type=kind)
    return _with_labels(config, label_names)


def _with_labels(config, label_names: list[str]):
    config.id2label = dict(enumerate(label_names))
    config.label2id = {name: i for i, name in enumerate(label_names)}
    return config
