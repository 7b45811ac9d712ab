"""A checkpoint of BERT's family as files: found, checked and digested before any of it is loaded."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

from twostage.encoder.family import config_file, read_config, read_json, refuse_pointer
from twostage.encoder.weights import check_header
from twostage.errors import BadInput

SINGLE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that exists is the one that counts
SHARDED_WEIGHTS = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
SLOW_FILES = ("vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model")  # where neither of the first two is
TOKENIZER_BYTES = 1 << 30  # of one of these files, at most
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "pytorch_adapter.bin")
HUB_PATTERNS = [
    *("config.json", "bert_config.json", "modules.json", "*.safetensors", "*.safetensors.index.json"),
    *("*/config.json", *ADAPTERS, *TOKENIZER_FILES, *SLOW_FILES),
]


def find_model(name_or_path) -> Path:
    """The folder of a checkpoint: a path, else a hub name (files at hand first, then the network).

    Of a sentence-transformers folder it is the transformer's. BadInput where it is no folder, of another architecture, without
    weights or tokenizer, or with an adapter beside the weights; nothing but settings and the heads of files is read.
    """
    folder = Path(name_or_path).expanduser()
    if not folder.exists():
        folder = _from_hub(str(name_or_path))
    if not folder.is_dir():
        raise BadInput(f"{folder}: not a folder; give the folder that holds config.json, the weights and the tokenizer")
    folder = _transformer_in(folder)
    refuse_adapter(folder)
    config = read_config(folder)
    check_header(weight_files(folder), config)
    for path in tokenizer_files(folder):
        refuse_pointer(path)
        if path.stat().st_size > TOKENIZER_BYTES:
            raise BadInput(f"{path}: {path.stat().st_size:,} bytes, too many for a tokenizer; get the checkpoint again")
    return folder


def _transformer_in(folder: Path) -> Path:
    """The folder that holds the model itself; BadInput that names it where it lies in a folder that we can only guess at."""
    modules = trained_modules(folder)
    if modules:
        inside = folder / modules[0][1]
        if modules[0][1] and inside.is_dir():
            return inside
    if config_file(folder).exists() or any((folder / name).exists() for name in ADAPTERS):
        return folder
    below = sorted(path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/config.json"))
    if below:
        raise BadInput(f"{folder}: no config.json; there is one in {below[0]}: give that folder if it is the model")
    return folder


def trained_modules(folder: Path) -> list[tuple[str, str]]:
    """(class, folder) of each part of a sentence-transformers model, the transformer first; none where it is no such folder."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        parts = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < 1 << 20 else []
        found = [(part["type"].rsplit(".", 1)[-1], part["path"]) for part in parts]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return []
    if (
        not found
        or found[0][0] != "Transformer"
        or not all(isinstance(at, str) and re.fullmatch(r"[\w.-]*", at) for _, at in found)
    ):
        return []
    return found


def trained_pooling(folder: Path) -> str | None:
    """The pooling that a sentence-transformers model was trained with (mean, cls, ...); None where it is none."""
    for root in (folder, folder.parent):
        for kind, at in trained_modules(root):
            if kind == "Pooling" and (root / at / "config.json").is_file():
                config = read_json(root / at / "config.json", "")
                old = [
                    name.split("_")[2] for name, value in config.items() if name.startswith("pooling_mode_") and value is True
                ]
                found = config.get("pooling_mode", "+".join(old))
                return found if isinstance(found, str) and found else None
    return None


def refuse_adapter(folder: Path) -> None:
    """BadInput where an adapter (LoRA and its kin) lies beside the weights: they are not the model without it."""
    for name in ADAPTERS:
        if (folder / name).exists():
            raise BadInput(
                f"{folder}: {name} belongs to an adapter, without which these weights are not the model; merge it first "
                "(peft: merge_and_unload, save_pretrained) and give that folder"
            )


def tokenizer_files(folder: Path) -> list[Path]:
    """The files that decide the tokenizer; BadInput where there are none."""
    names = TOKENIZER_FILES
    if not any((folder / name).is_file() for name in TOKENIZER_FILES[:2]):
        names = TOKENIZER_FILES + SLOW_FILES
        if not any((folder / name).is_file() for name in SLOW_FILES):
            raise BadInput(f"{folder}: no tokenizer (tokenizer.json or vocab.txt); copy the checkpoint's own beside it")
    return [folder / name for name in names if (folder / name).is_file()]


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
            f"{name}: no such folder, and the model hub did not provide it ({reason}); give the path of a BERT folder"
        ) from None


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, an index of shards first; BadInput where there are none or some are missing."""
    for single, sharded in zip(SINGLE_WEIGHTS, SHARDED_WEIGHTS, strict=True):
        if (folder / single).is_file():
            return [folder / single]
        index = folder / sharded
        if index.is_file():
            try:
                names = sorted(set(read_json(index, "")["weight_map"].values()))
            except (KeyError, AttributeError, TypeError):
                raise BadInput(f"{index}: not an index of weight files; get the checkpoint again") from None
            if any(not isinstance(name, str) or Path(name).name != name for name in names):
                raise BadInput(f"{index}: names files outside its folder; get the checkpoint again")
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise BadInput(
                    f"{folder}: no weights file {missing[0]}, which {index.name} names; get it from the same checkpoint"
                )
            return [index, *(folder / name for name in names)]
    raise BadInput(f"{folder}: no weights (model.safetensors or pytorch_model.bin); copy the checkpoint's own beside it")


def digest_files(folder: Path) -> dict[str, str]:
    """Read all of a checkpoint's files (about 1 GB/s): the sha256 in hex of what its weights, config and tokenizer hold, by these
    names; where files are and when they were written is no part of it. BadInput for one that cannot be read."""
    files = {"weights": weight_files(folder), "config": [config_file(folder)], "tokenizer": tokenizer_files(folder)}
    return {name: _digest(paths) for name, paths in files.items()}


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
