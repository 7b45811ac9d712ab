"""A saved classifier as an ONNX graph, for runtimes without torch: any head, any pooling, documents of any number and length."""

import contextlib
import logging
import os
import warnings
from pathlib import Path

import numpy as np

from twostage.errors import BadInput, shown
from twostage.files import discard, partial_of, sync

NAME = "model.onnx"
CLOSE = 1e-4  # how far a logit may be from torch's


def check_packages() -> None:
    """BadInput where what it takes is not installed."""
    import importlib.util

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(
            f"--onnx needs {' and '.join(missing)}: pip install onnx onnxscript onnxruntime (the extra twostage[onnx])"
        )


def write_onnx(folder: Path) -> Path:
    """model.onnx in a folder that save_classifier wrote: input_ids and attention_mask (B, T) int64 -> logits (B, C) float32.

    onnxruntime is asked for a few documents before the file gets its name. BadInput where it does not answer as torch does.
    """
    import torch

    from twostage.models.classifier import load_classifier

    check_packages()
    model, tokenizer, _, settings = load_classifier(folder)
    partial = partial_of(folder / NAME)
    discard(partial)
    partial.mkdir()
    try:
        ids, mask = _documents(model.config, tokenizer, settings["max_length"])[-1]
        batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
        with _quiet():
            program = torch.onnx.export(
                Logits(model), (torch.from_numpy(ids), torch.from_numpy(mask)), dynamo=True, verbose=False,
                input_names=["input_ids", "attention_mask"], output_names=["logits"],
                dynamic_shapes={name: {0: batch, 1: tokens} for name in ("input_ids", "attention_mask")},
            )  # fmt: skip
            program.save(str(partial / NAME))
        _compare(partial / NAME, model, _documents(model.config, tokenizer, settings["max_length"]))
        for path in sorted(
            partial.iterdir(), key=lambda path: path.name == NAME
        ):  # weights of over 2 GB lie beside the graph: first
            sync(path)
            os.replace(path, folder / path.name)
        sync(folder)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = shown(" ".join(str(error).split()))[:200]
        raise BadInput(f"{folder}: torch {torch.__version__} cannot write it as ONNX ({reason}); leave out --onnx") from None
    finally:
        discard(partial)
    return folder / NAME


def Logits(model):  # noqa: N802 (a class, made late: torch is not loaded before)
    """A module that takes two tensors and gives one, as a graph does."""
    import torch

    class Graph(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model.eval()

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids, attention_mask=attention_mask).logits

    return Graph()


def _documents(config, tokenizer, longest: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Token ids and masks (B, T): one short document, one of the full length, and several of all lengths with padding."""
    rng, found = np.random.default_rng(0), []
    pad = tokenizer.pad_token_id or 0
    for many, tokens in ((1, 3), (1, longest), (5, min(longest, 12))):
        ids = rng.integers(0, config.vocab_size, (many, tokens))
        lengths = np.linspace(3, tokens, many).astype(int)[::-1]
        mask = (np.arange(tokens) < lengths[:, None]).astype(np.int64)
        found.append((np.where(mask == 1, ids, pad), mask))
    return found


def _compare(path: Path, model, documents) -> None:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for ids, mask in documents:
        (found,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
        with torch.inference_mode():
            wanted = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.numpy()
        error = float(np.abs(found - wanted).max()) / max(1.0, float(np.abs(wanted).max()))
        if not error <= CLOSE:
            raise ValueError(f"onnxruntime's logits are {error:.2g} off")


@contextlib.contextmanager
def _quiet():
    """torch's exporter warns of packages that nobody needs here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
