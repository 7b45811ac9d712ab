"""A trained run, ready to classify texts: its encoder, batched as in extraction, and its head.

A head run is a head and the encoder that made its vectors; a fine-tuned or exported run is one transformers folder.
"""

from pathlib import Path

import numpy as np

from twostage.encoder.settings import ENCODER_FIELDS, differences, given
from twostage.errors import BadInput
from twostage.runs.folder import read_run


class Trained:
    """label_names (C strings); probabilities(texts) -> (N, C) float32. Close it when done."""

    def __init__(self, tokens, lanes, head, label_names: list[str], settings: dict):
        self.tokens, self.lanes, self.head, self.label_names, self.settings = tokens, lanes, head, label_names, settings
        self.temperature = 1.0  # that logits are divided by

    def probabilities(self, texts: list[str]) -> np.ndarray:
        """Class probabilities (N, C) of N texts, calibrated on val; on a CPU one text's are the same whatever is beside it."""
        import torch

        ids, _ = self.tokens(texts)
        vectors = torch.from_numpy(self.lanes.encode(ids))  # (N, D)
        with torch.inference_mode():
            return (self.head(vectors) / self.temperature).softmax(1).numpy()

    def close(self) -> None:
        self.lanes.close()


def load_run(path: Path, *, model: str | None = None, device: str = "auto", dtype: str = "auto") -> Trained:
    """Load what a run trained. `model` names the encoder of a head run (default: where the run saw it).

    BadInput: no run, a run without a model, an encoder that is missing or not the one it was trained with.
    """
    from twostage.models.calibrated import temperature_of

    path = Path(path)
    read_run(path)
    if (path / "model").is_dir() and model is None:
        found = load_folder(path / "model", device=device, dtype=dtype)
    elif (path / "head").is_dir():
        found = load_head_run(path, model, device, dtype)
    elif (path / "model").is_dir():
        raise BadInput(f"--model {model}: {path} is fine-tuned and brings its own encoder: leave out --model")
    else:
        raise BadInput(f"{path} holds no model (neither head/ nor model/): give a run that finished")
    if "temperature" not in found.settings:  # a model/ is calibrated already
        found.temperature = temperature_of(path)
    return found


def load_folder(folder: Path, *, device: str = "auto", dtype: str = "auto") -> Trained:
    """Load a transformers folder that twostage wrote: model/ of a fine-tuned or exported run."""
    import torch

    from twostage.encoder.encoder import resolve_device
    from twostage.encoder.forward import FoldedBert
    from twostage.encoder.lanes import Lanes
    from twostage.encoder.tokenizer import Tokens
    from twostage.models.classifier import load_classifier

    classifier, tokenizer, label_names, settings = load_classifier(folder)
    pooling, trained = settings.get("pooling", "cls"), settings.get("encoder", settings)
    device = resolve_device(device)
    folded = FoldedBert(classifier.bert, pooling, device, getattr(torch, pick_dtype(dtype, device, trained)))
    tokens = Tokens(tokenizer, settings["max_length"], settings.get("truncation", "head"), trained.get("prefix", ""))
    return Trained(tokens, Lanes(folded), classifier.head.requires_grad_(False), label_names, settings)


def load_head_run(path: Path, model: str | None, device: str, dtype: str) -> Trained:
    from twostage.encoder.encoder import Encoder, resolve_device
    from twostage.encoder.settings import view_of
    from twostage.models.head import load_head

    head, config = load_head(path / "head")
    folder = encoder_folder(path, config, model)
    settings, device = config["encoder"], resolve_device(device)
    encoder = Encoder(
        folder, max_length=settings["max_length"], truncation=settings["truncation"], pooling=[view_of(settings)],
        prefix=settings.get("prefix", ""), device=device, dtype=pick_dtype(dtype, device, settings),
    )  # fmt: skip
    return Trained(encoder.tokens, encoder.lanes, head.requires_grad_(False), config["label_names"], settings)


def encoder_folder(path: Path, config: dict, model: str | None) -> Path:
    """The folder of the encoder that a head was trained with; BadInput where it is not found, or another one."""
    from twostage.encoder.checkpoint import find_model
    from twostage.encoder.settings import encoder_settings

    settings = config.get("encoder")
    if not isinstance(settings, dict) or any(name not in settings for name in ENCODER_FIELDS):
        raise BadInput(f"{path / 'head' / 'config.json'} does not say how its vectors were made: train the head again")
    name = model or recorded_model(read_run(path))
    if name is None:
        raise BadInput(f"{path}: it is not known here which encoder made its vectors: name its folder with --model")
    try:
        folder = find_model(name)
    except BadInput as error:
        raise BadInput(f"{error}" if model else f"the encoder of {path}: {error}: name its folder with --model") from None
    keep = {name: settings[name] for name in ("max_length", "truncation", "pooling", "compute_dtype")} | given(settings)
    now = encoder_settings(folder, **keep) | {"format": settings["format"]}  # a head from before a more exact forward serves
    differing = differences(settings, now, (path.name, folder.name))
    if differing:
        raise BadInput(
            f"{folder} is not the encoder that {path} was trained with: {'; '.join(differing)}; give another --model"
        )
    return folder


def recorded_model(record: dict) -> str | None:
    """Where the encoder lay when the run's vectors were made: advice, its digests are the truth."""
    cache = record.get("cache")
    name = cache.get("model") if isinstance(cache, dict) else None
    return name if isinstance(name, str) and name else None


def pick_dtype(asked: str, device: str, settings: dict) -> str:
    """ "auto" is the arithmetic of the training, where this device is fast at it; else what it is fast at."""
    from twostage.encoder.encoder import resolve_dtype

    if asked != "auto":
        return asked
    trained, fast = settings.get("compute_dtype"), resolve_dtype("auto", device)
    return trained if trained == "float32" and device == "cpu" else fast
