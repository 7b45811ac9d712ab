"""Start a classifier from a head that was trained on frozen vectors: linear probing, then fine-tuning (Kumar et al. 2022)."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from twostage.encoder.settings import OPTIONAL, differences
from twostage.errors import BadInput
from twostage.models.head import linear_layers, load_head
from twostage.runs.folder import read_run

# compute_dtype and its format are left out: a vector in bfloat16 and one in float32 differ by rounding, and a head does for both.
MUST_MATCH = ("weights", "config", "tokenizer", "max_length", "truncation", "pooling", *OPTIONAL)


def start_head(run: Path, head: str, encoder: dict, label_names: list[str]) -> tuple[nn.Sequential, str, dict]:
    """(module, activation, facts for run.json) of a head run. Its rows are put into the order of `label_names`.

    BadInput: a run that is not complete, a head of another encoder, another shape, or other labels by name.
    """
    record = read_run(run)
    if record["status"] != "complete":
        raise BadInput(f"--init-head {run}: the run is {record['status']}: give one that is complete")
    module, config = load_head(Path(run) / "head")
    theirs, ours = ({name: one.get(name, OPTIONAL.get(name)) for name in MUST_MATCH} for one in (config["encoder"], encoder))
    if wrong := differences(theirs, ours, ("head", "asked")):
        raise BadInput(f"--init-head {run}: its vectors came from another encoder: {'; '.join(wrong)}")
    if config["head"] != head:
        raise BadInput(
            f"--init-head {run}: its head is {config['head']}, but {head} is asked for: give --head {config['head']} with rates"
        )
    if sorted(config["label_names"]) != sorted(label_names):
        theirs, ours = set(config["label_names"]), set(label_names)
        only = [", ".join(sorted(names)) or "none" for names in (theirs - ours, ours - theirs)]
        raise BadInput(f"--init-head {run}: different labels: only in the head {only[0]}; only in the corpus {only[1]}")
    last = linear_layers(module)[-1]
    order = torch.tensor([config["label_names"].index(name) for name in label_names])
    with torch.no_grad():
        last.weight.copy_(last.weight[order].clone())
        last.bias.copy_(last.bias[order].clone())
    digest = hashlib.sha256((Path(run) / "head" / "head.safetensors").read_bytes()).hexdigest()
    facts = {"run": Path(run).resolve().name, "digest": digest, "test_accuracy": record.get("test_accuracy")}
    return module, config["activation"], facts
