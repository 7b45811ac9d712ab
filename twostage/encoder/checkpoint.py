"""A BERT checkpoint as files: found, checked and digested before any of it is loaded."""

import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from twostage.errors import BadInput

SINGLE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that exists is the one that transformers loads
SHARDED_WEIGHTS = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
HUB_PATTERNS = ["config.json", "*.safetensors", "*.safetensors.index.json", *TOKENIZER_FILES]


def find_model(name_or_path) -> Path:
    """The folder of a BERT checkpoint: a path, else a hub name (files at hand first, then the network).

    BadInput where it is no folder, not BERT class, or without weights or tokenizer.
    """
    folder = Path(name_or_path).expanduser()
    if not folder.exists():
        folder = _from_hub(str(name_or_path))
    if not folder.is_dir():
        raise BadInput(f"{folder}: not a folder; give the folder that holds config.json, the weights and the tokenizer")
    read_config(folder)
    weight_files(folder)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise BadInput(f"{folder}: no tokenizer (tokenizer.json or vocab.txt); copy the checkpoint's own beside it")
    return folder


def model_name(name_or_path) -> str:
    """The last part of a folder or hub name, safe in a file name."""
    path = Path(name_or_path).expanduser()
    last = path.resolve().name if path.exists() else str(name_or_path).rstrip("/").split("/")[-1]
    name = os.fsencode(last).decode("utf-8", "replace")  # the same file name in every locale
    return os.fsdecode((re.sub(r"[^\w.+-]+", "-", name)[:60].strip(".-") or "model").encode())


def _from_hub(name: str) -> Path:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise BadInput(f"{name}: no such model folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        held = Path(snapshot_download(name, allow_patterns=HUB_PATTERNS, local_files_only=True))
        weight_files(held)
        return held
    except Exception:  # not at hand, or only in part: ask the hub
        pass
    try:
        held = Path(snapshot_download(name, allow_patterns=HUB_PATTERNS))
        if not any((held / file).is_file() for file in SINGLE_WEIGHTS + SHARDED_WEIGHTS):
            held = Path(snapshot_download(name, allow_patterns=[*HUB_PATTERNS, "pytorch_model*"]))
        return held
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:160] or type(error).__name__
        raise BadInput(
            f"{name}: no such folder, and the model hub did not give it ({reason}); give the path of a BERT folder"
        ) from None


def read_config(folder: Path) -> dict:
    """config.json of a BERT-class checkpoint; BadInput for another class or settings that BertModel would not honour."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{folder}: no config.json; give the folder of a BERT checkpoint") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error}); get the checkpoint anew") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "bert":
        raise BadInput(f"{path}: model_type is {kind!r}, not 'bert'; only BERT-class checkpoints can be read")
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise BadInput(f"{path}: relative positions or a decoder; only plain BERT encoders can be read")
    for name in ("hidden_size", "vocab_size", "max_position_embeddings", "num_hidden_layers", "num_attention_heads"):
        config.setdefault(name, BERT_DEFAULTS[name])
        if not isinstance(config[name], int) or config[name] < 1:
            raise BadInput(f"{path}: {name} is {config[name]!r}; get the checkpoint anew")
    if config["hidden_size"] % config["num_attention_heads"]:
        raise BadInput(f"{path}: hidden_size is not a multiple of num_attention_heads; get the checkpoint anew")
    return config


BERT_DEFAULTS = {  # of transformers.BertConfig, for a config.json that leaves them out
    "hidden_size": 768,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, an index of shards first; BadInput where there are none or some are missing."""
    for kind in range(2):
        if (folder / SINGLE_WEIGHTS[kind]).is_file():
            return [folder / SINGLE_WEIGHTS[kind]]
        index = folder / SHARDED_WEIGHTS[kind]
        if index.is_file():
            try:
                names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            except (ValueError, KeyError, AttributeError, TypeError):
                raise BadInput(f"{index}: not an index of weight files; get the checkpoint anew") from None
            if any(not isinstance(name, str) or Path(name).name != name for name in names):
                raise BadInput(f"{index}: names files outside its folder; get the checkpoint anew")
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise BadInput(
                    f"{folder}: no weights file {missing[0]}, which {index.name} names; get it from the same checkpoint"
                )
            return [index, *(folder / name for name in names)]
    raise BadInput(f"{folder}: no weights (model.safetensors or pytorch_model.bin); copy the checkpoint's own beside it")


@dataclass(frozen=True)
class FileDigests:
    """sha256 in hex of what the files of a checkpoint hold; where they lie and when they were written is no part of it."""

    weights: str
    config: str
    tokenizer: str


def digest_files(folder: Path) -> FileDigests:
    """Read all of a checkpoint's files (about 1 GB/s) and digest them; BadInput for one that cannot be read."""
    tokenizer = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return FileDigests(_digest(weight_files(folder)), _digest([folder / "config.json"]), _digest(tokenizer))


def _digest(files: list[Path]) -> str:
    """sha256 of one file; of several, sha256 over their names and digests."""
    each = []
    for path in files:
        try:
            with open(path, "rb") as file:
                each.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    if len(each) == 1:
        return each[0]
    lines = (f"{path.name} {digest}\n" for path, digest in zip(files, each, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_max_length(folder: Path, max_length: int) -> None:
    positions = read_config(folder)["max_position_embeddings"]
    if not 3 <= max_length <= positions:
        raise BadInput(
            f"--max-length {max_length}: {folder} has {positions} positions; give 3 ([CLS], a token, [SEP]) to {positions}"
        )
