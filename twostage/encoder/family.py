"""The architectures whose forward is BERT's arithmetic. They differ in their embeddings alone: where positions start, and what
is added to each token. Here their settings are read and checked; no torch.
"""

import json
import re
from pathlib import Path

from twostage.errors import BadInput, shown

FAMILY = {  # model_type: the prefix of its classes in transformers
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "data2vec-text": "Data2VecText",
    "ernie": "Ernie",
}
POSITIONS_AFTER_PAD = ("roberta", "xlm-roberta", "camembert", "data2vec-text")  # fairseq's: the first token stands at pad + 1
FORWARD_SETTINGS = (  # of a config, all that its forward and its training ask for, besides the SIZES
    *("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps"),
    *("pad_token_id", "bos_token_id", "eos_token_id"),
    *("use_task_id", "task_type_vocab_size"),  # ERNIE's
)
CONFIG_BYTES = 1 << 26  # of a JSON file, at most: a config with a million class names is smaller
SIZES = {  # name: default of transformers.BertConfig, the least, the most
    "hidden_size": (768, 1, 1 << 16),
    "vocab_size": (30522, 1, 1 << 24),
    "max_position_embeddings": (512, 1, 1 << 20),
    "num_hidden_layers": (12, 1, 1000),
    "num_attention_heads": (12, 1, 1 << 16),
    "intermediate_size": (3072, 1, 1 << 20),
    "type_vocab_size": (2, 1, 1000),
}


def config_file(folder: Path) -> Path:
    """config.json, or bert_config.json as Google's own checkpoints have it."""
    first, other = folder / "config.json", folder / "bert_config.json"
    return other if not first.exists() and other.is_file() else first


def read_config(folder: Path) -> dict:
    """The settings of a checkpoint of BERT's family, checked; `model_type` and the sizes are always there.

    BadInput for another architecture, settings that its forward would not honour, and sizes that no model has.
    """
    path = config_file(folder)
    return checked_config(read_json(path, f"{folder}: no config.json; give the folder of a BERT checkpoint"), path)


def checked_config(config: dict, path: Path) -> dict:
    """config as read from `path`, checked and filled up; BadInput as for read_config."""
    kind = config["model_type"] = config.get("model_type") or _type_without_name(config)
    *most, last = FAMILY
    if kind is None:
        raise BadInput(f"{path}: has no model_type, so it is not an encoder's; {', '.join(most)} and {last} can be read")
    if not isinstance(kind, str) or kind not in FAMILY:
        raise BadInput(
            f"{path}: model_type is {_short(kind)}, which computes differently; {', '.join(most)} and {last} can be read"
        )
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise BadInput(f"{path}: relative positions or a decoder; only plain BERT encoders can be read")
    for name, (default, least, most) in SIZES.items():
        if not _whole(config.setdefault(name, default), least, most):
            raise BadInput(f"{path}: {name} is {_short(config[name])}, not {least} to {most:,}; get the checkpoint again")
    if config["hidden_size"] % config["num_attention_heads"]:
        raise BadInput(f"{path}: hidden_size is not a multiple of num_attention_heads; get the checkpoint again")
    eps = config.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, float) or not 0 < eps < 1 or not isinstance(config.get("hidden_act", "gelu"), str):
        raise BadInput(f"{path}: layer_norm_eps or hidden_act is invalid; get the checkpoint again")
    if kind in POSITIONS_AFTER_PAD:
        highest = min(config["vocab_size"], config["max_position_embeddings"]) - 1
        if not _whole(config.setdefault("pad_token_id", 1), 0, highest):
            raise BadInput(f"{path}: pad_token_id is {_short(config['pad_token_id'])}, not 0 to {highest:,}; get it again")
    if kind == "ernie" and config.get("use_task_id") and not _whole(config.setdefault("task_type_vocab_size", 3), 1, 1000):
        raise BadInput(f"{path}: task_type_vocab_size is {_short(config['task_type_vocab_size'])}; get the checkpoint again")
    return config


def read_json(path: Path, absent: str, way: str = "get the checkpoint again") -> dict:
    """A JSON file that holds an object; BadInput (with `absent` where it does not exist) for anything else, however made."""
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"{path}: not a file; {way}")
        refuse_pointer(path)
        if path.stat().st_size > CONFIG_BYTES:
            raise BadInput(f"{path}: {path.stat().st_size:,} bytes, too many for settings; {way}")
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadInput(absent) from None
    except RecursionError:
        raise BadInput(f"{path}: nested too deeply for settings; {way}") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as JSON ({_short(error)}); {way}") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path}: not a JSON object; {way}")
    return found


def refuse_pointer(path: Path) -> None:
    """BadInput where a file is only a pointer of Git LFS: a clone without it leaves those behind."""
    with open(path, "rb") as file:
        start = file.read(200)
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        size = re.search(rb"size (\d+)", start)
        real = f" of {int(size[1]):,} bytes" if size else ""
        raise BadInput(f"{path}: a Git LFS pointer, not the file{real}; run `git lfs pull` in its folder, or download it")


def pad_of_positions(model_type: str, pad_token_id: int | None) -> int | None:
    """The pad token after whose id positions start, where they don't start at 0."""
    return pad_token_id if model_type in POSITIONS_AFTER_PAD else None


def positions(config: dict) -> int:
    """How many tokens a document can have in a model of these settings."""
    pad = pad_of_positions(config["model_type"], config.get("pad_token_id"))
    return config["max_position_embeddings"] - (0 if pad is None else pad + 1)


def check_max_length(folder: Path, max_length: int) -> None:
    """BadInput where a document of max_length tokens has no place in the model."""
    most = positions(read_config(folder))
    if not 3 <= max_length <= most:
        raise BadInput(f"--max-length {max_length}: {folder} has {most} positions; give 3 ([CLS], a token, [SEP]) to {most}")


def _type_without_name(config: dict) -> str | None:
    """The model_type of a config.json from before there were any: by its class, else BERT's own where it looks like BERT's."""
    classes = config.get("architectures")
    first = classes[0] if isinstance(classes, list) and classes and isinstance(classes[0], str) else None
    if first is None:
        return "bert" if {"hidden_size", "type_vocab_size"} <= config.keys() and "embedding_size" not in config else None
    return next((kind for kind, prefix in FAMILY.items() if re.match(rf"{prefix}(Model|For[A-Z])", first)), first)


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _short(value: object) -> str:
    try:
        text = shown(value if isinstance(value, Exception) else repr(value))
    except RecursionError:
        return "nested too deeply"
    return text if len(text) <= 120 else text[:119] + "…"
