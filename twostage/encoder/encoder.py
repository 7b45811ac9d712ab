"""A frozen BERT: from texts to one vector each."""

from pathlib import Path

import numpy as np

from twostage import ranks
from twostage.encoder.family import check_max_length, read_config
from twostage.errors import BadInput


def resolve_device(name: str) -> str:
    """The device meant, a GPU always with its number: the current one is a matter of each thread.

    "auto" is a GPU where there is one, else cpu; under torchrun each rank has its own GPU. BadInput for one that is not here."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise BadInput(f"--device {name}: not a device; give auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return "cpu"
    if ranks.size() > 1 and device.index not in (None, ranks.local_rank()):
        raise BadInput(f"--device {name}: each of the {ranks.size()} ranks takes its own; give auto, cuda or cpu")
    index = device.index if device.index is not None else ranks.local_rank()
    if index >= torch.cuda.device_count():
        raise BadInput(f"--device {name}: this machine has {torch.cuda.device_count()} such devices; give auto or cpu")
    # On compute capability 9 torch prefers cuDNN's attention, which builds a plan, 20 to 40 ms, for every new shape; some
    # images turn TF32 on by an environment variable, and float32 is to be float32.
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.set_float32_matmul_precision("highest")
    return f"cuda:{index}"


def resolve_dtype(name: str, device: str) -> str:
    """ "auto" is bfloat16 (float16 on a GPU without it) on a GPU and on a processor that multiplies in it; else float32.
    BadInput for bfloat16 on a GPU that only emulates it."""
    import torch

    from twostage.encoder.processor import has_bfloat16

    if device.startswith("cuda"):
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        if name == "bfloat16" and not native:
            raise BadInput(
                "--dtype bfloat16: this GPU only emulates it (compute capability below 8.0); give float16 or float32"
            )
        return name if name != "auto" else "bfloat16" if native else "float16"
    if name != "auto":
        return name
    return "bfloat16" if has_bfloat16() else "float32"


def emulated(dtype: str, device: str) -> list[str]:
    """A line where this processor has no unit for the dtype and is slower in it than in what auto takes: 3 to 39 times were seen."""
    from twostage.encoder.processor import has_bfloat16, has_float16, is_x86

    units = {"bfloat16": has_bfloat16, "float16": has_float16}
    if device != "cpu" or dtype not in units or not is_x86() or units[dtype]():
        return []
    return [f"--dtype {dtype}: this processor has no unit for it; auto takes {resolve_dtype('auto', device)}, which is faster"]


def load_tokenizer(folder: Path, vocab_size: int | None = None):
    """The checkpoint's fast tokenizer; BadInput where there is none or it has more tokens than the model's embedding.

    vocab_size: rows of the embedding (default: as config.json says).
    """
    from transformers import AutoTokenizer

    from twostage.encoder.weights import native_config

    config = read_config(folder)
    named = {"tokenizer_class": config["tokenizer_class"]} if isinstance(config.get("tokenizer_class"), str) else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, config=native_config(config, **named), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:160] or type(error).__name__
        raise BadInput(f"{folder}: its tokenizer cannot be loaded ({reason}); copy the checkpoint's own beside it") from None
    if not tokenizer.is_fast:
        raise BadInput(
            f"{folder}: {type(tokenizer).__name__} has no fast version (it would be 20 times slower); give a checkpoint with tokenizer.json"
        )
    rows = vocab_size if vocab_size is not None else config["vocab_size"]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise BadInput(
            f"{folder}: the tokenizer has ids up to {highest}, the model's embedding {rows} rows: the vocabulary is "
            "another checkpoint's; copy the model's own"
        )
    first = {tokenizer.cls_token_id, tokenizer.bos_token_id} - {None}  # [CLS], or <s> where it goes by that name alone
    if not first.intersection(tokenizer("", add_special_tokens=True)["input_ids"][:1]):
        raise BadInput(f"{folder}: the tokenizer does not put [CLS] in front of a text; copy the checkpoint's own")
    return tokenizer


def load_tokens(folder: Path, max_length: int, truncation: str, prefix: str = ""):
    """The checkpoint's tokenizer as Tokens; BadInput as load_tokenizer, and for a max_length that the model cannot take."""
    from twostage.encoder.tokenizer import Tokens

    check_max_length(folder, max_length)
    return Tokens(load_tokenizer(folder), max_length, truncation, prefix)


def load_bert(folder: Path, *, pooler: bool = False, layer: int = -1):
    """The checkpoint's encoder (BertModel, RobertaModel, ...) in float32 on the CPU, in eval mode; cut after that layer.

    BadInput where the checkpoint lacks one of its weights, or has one of another shape than config.json says.
    """
    from twostage.encoder.checkpoint import weight_files
    from twostage.encoder.weights import build, load_weights

    config = read_config(folder)
    config["num_hidden_layers"] += 1 + layer
    weights = load_weights(weight_files(folder), config, pooler)
    return build("Model", config, weights, folder, add_pooling_layer=pooler)


class Encoder:
    """A frozen BERT on a device, for texts in any number. On a CPU the same text gives the same vector whatever is beside it;
    on a GPU its last bits depend on the batch.

    pooling: cls is last_hidden_state[:, 0], pooler is BertModel's pooler_output, mean and max are over all tokens kept, [CLS] and
    [SEP] among them. Of another layer, or for several vectors of each text, give views: [(pooling, layer), ...]; see lanes.submit.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_length: int = 512,
        truncation: str = "head",
        prefix: str = "",
        pooling: str | list[tuple[str, int]] = "cls",
        device: str = "auto",
        dtype: str = "auto",
        tokens_per_batch: int | None = None,
    ):
        import torch

        from twostage.encoder.forward import FoldedBert
        from twostage.encoder.lanes import Lanes

        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        self.tokens = load_tokens(folder, max_length, truncation, prefix)
        model = load_bert(folder, pooler=pooling == "pooler" or ("pooler", -1) in list(pooling))
        self.config, self.hidden_size = model.config, model.config.hidden_size
        self.bert = FoldedBert(model, pooling, device=self.device, dtype=getattr(torch, self.dtype))
        self.lanes = Lanes(self.bert, tokens_per_batch)

    def encode(self, texts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vectors (N, D) float32, token counts (N,) int32 with [CLS] and [SEP], and whether each text was cut (N,) bool."""
        ids, truncated = self.tokens(list(texts))
        vectors = self.lanes.encode(ids)
        return vectors, np.array([len(one) for one in ids], np.int32), truncated

    def close(self) -> None:
        self.lanes.close()
