"""The weights of a checkpoint: names and shapes held against its settings before anything is read, then copied off the file."""

from pathlib import Path

from twostage.encoder.family import FAMILY, FORWARD_SETTINGS, SIZES, refuse_pointer
from twostage.errors import BadInput, shown

WORDS = "embeddings.word_embeddings.weight"  # what stands before it, in a checkpoint of another task, stands before all names


def check_header(files: list[Path], config: dict) -> None:
    """BadInput for weight files that are pointers, torn, or hold other weights than the settings ask for. Reads their heads only:
    of a pytorch_model.bin that is its first bytes, and the rest is seen when it is loaded."""
    shapes = {}
    for path in files:
        refuse_pointer(path)
        if path.suffix == ".safetensors":
            shapes |= _safetensors_shapes(path)
        elif path.suffix == ".bin":
            with open(path, "rb") as file:
                start = file.read(4)
            if not start.startswith((b"PK\x03\x04", b"\x80")):
                raise _unreadable(path, "it is not a file of torch.save")
    if shapes:
        matched(shapes, config, files[0].parent)


def load_weights(files: list[Path], config: dict, pooler: bool = False) -> dict:
    """The encoder's tensors out of these files; see encoder_weights."""
    return encoder_weights(stored_tensors(files), config, files[0].parent, pooler)


def encoder_weights(stored: dict, config: dict, folder: Path, pooler: bool = False) -> dict:
    """The encoder's tensors in float32 by their plain names, copied: whoever writes over a file later doesn't reach them."""
    import torch

    names = matched({name: tuple(tensor.shape) for name, tensor in stored.items()}, config, folder, pooler)
    for name in names.values():
        if not stored[name].is_floating_point():
            raise BadInput(f"{folder}: {name} is {stored[name].dtype}: a quantized checkpoint; get the plain one")
    return {plain: stored[name].detach().to(torch.float32, copy=True).contiguous() for plain, name in names.items()}


def matched(shapes: dict, config: dict, folder: Path, pooler: bool = False) -> dict[str, str]:
    """For each weight of an encoder of these settings its name in the checkpoint, whose tensors have `shapes` by name.

    Prefixes of a wrapper or of another task (`module.`, `bert.`) and the old gamma and beta are seen through. BadInput for weights
    that are missing or of other shapes, and for an adapter's.
    """
    if any(".lora_" in name or ".base_layer." in name for name in shapes):
        raise BadInput(f"{folder}: its weights hold an adapter (LoRA); merge it first (peft: merge_and_unload)")
    before = [name.removesuffix(WORDS) for name in shapes if name.endswith(WORDS)]
    if len(before) > 1:
        raise BadInput(f"{folder}: holds several encoders ({', '.join(map(shown, sorted(before)[:3]))}); give one alone")
    prefix = before[0] if before else ""
    found = {
        name.removeprefix(prefix)
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): name
        for name in shapes
        if name.startswith(prefix)
    }
    names, missing = {}, []
    for plain, shape in _wanted(config, pooler):
        if plain not in found:
            missing.append(plain)
        elif tuple(shapes[found[plain]]) != shape:
            has = " x ".join(map(str, shapes[found[plain]]))
            raise BadInput(
                f"{folder}: weights and config.json differ in shape: {plain} is {has}, not {' x '.join(map(str, shape))}; "
                "get both from one checkpoint"
            )
        else:
            names[plain] = found[plain]
    if missing:
        way = "use --pooling cls, mean or max" if all(name.startswith("pooler.") for name in missing) else "get it again"
        rest = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise BadInput(f"{folder}: the checkpoint lacks {missing[0]}{rest}; {way}")
    return names


def _wanted(config: dict, pooler: bool):
    """(name, shape) of each weight of such an encoder."""
    d, wide = config["hidden_size"], config["intermediate_size"]
    yield WORDS, (config["vocab_size"], d)
    yield "embeddings.position_embeddings.weight", (config["max_position_embeddings"], d)
    yield "embeddings.token_type_embeddings.weight", (config["type_vocab_size"], d)
    if config["model_type"] == "ernie" and config.get("use_task_id"):
        yield "embeddings.task_type_embeddings.weight", (config["task_type_vocab_size"], d)
    yield from _norm("embeddings.LayerNorm", d)
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            yield from _linear(f"{at}.attention.{name}", d, d)
        yield from _norm(f"{at}.attention.output.LayerNorm", d)
        yield from _linear(f"{at}.intermediate.dense", d, wide)
        yield from _linear(f"{at}.output.dense", wide, d)
        yield from _norm(f"{at}.output.LayerNorm", d)
    if pooler:
        yield from _linear("pooler.dense", d, d)


def _linear(name: str, inputs: int, outputs: int):
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int):
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def stored_tensors(files: list[Path]) -> dict:
    """All tensors of these files by name; those of a safetensors file are not read yet. Never runs code that a file brings."""
    import torch
    from safetensors import safe_open

    found = {}
    for path in files:
        try:
            if path.suffix == ".json":  # the index of shards
                continue
            refuse_pointer(path)
            if path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            else:
                held = torch.load(path, map_location="cpu", weights_only=True)
                found |= {name: tensor for name, tensor in held.items() if isinstance(tensor, torch.Tensor)}
        except BadInput:
            raise
        except Exception as error:  # unpicklers raise what they please
            raise _unreadable(path, error) from None
    return found


def _unreadable(path: Path, reason) -> BadInput:
    text = shown(str(reason).strip().split("\n")[0])[:160] or type(reason).__name__
    return BadInput(f"{path}: the weights cannot be loaded ({text}); get the checkpoint again")


def native_config(config: dict, **more):
    """transformers' own config of such an encoder, with what its forward and training ask for and nothing else that stood there."""
    import transformers

    names = (*SIZES, *FORWARD_SETTINGS) if config["model_type"] == "ernie" else (*SIZES, *FORWARD_SETTINGS[:-2])
    kept = {name: config[name] for name in names if name in config}
    return getattr(transformers, f"{FAMILY[config['model_type']]}Config")(**kept, **more)


def build(kind: str, config: dict, weights: dict, folder: Path, **more):
    """transformers' own class of that kind (Model, ForSequenceClassification) with these weights, in eval mode and frozen."""
    import torch
    import transformers
    from transformers.utils import logging

    shown_level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = getattr(transformers, f"{FAMILY[config['model_type']]}{kind}").from_pretrained(
            None, config=native_config(config), state_dict=weights, dtype=torch.float32, output_loading_info=True, **more
        )
    except Exception as error:
        reason = shown(str(error).strip().split("\n")[0])[:200] or type(error).__name__
        raise BadInput(f"{folder}: its weights cannot be loaded ({reason}); get the checkpoint again") from None
    finally:
        logging.set_verbosity(shown_level)
        if bar:
            logging.enable_progress_bar()
    wrong = sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"], *info["unexpected_keys"])))
    if wrong:
        raise BadInput(f"{folder}: this version of transformers does not accept {wrong[0]}; get another")
    return model.eval().requires_grad_(False)
