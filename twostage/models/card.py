"""The model card of a saved model: what a reader of its folder, or of a model hub, has to know. No path of this machine is in it."""

import json
import re
from pathlib import Path

from twostage import __version__
from twostage.files import write_text

USE = """from transformers import pipeline

classify = pipeline("text-classification", model=".")  # this folder
print(classify("{text}", truncation=True))
"""
USE_OURS = """import torch, twostage.models.classifier  # makes the class known to transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model, tokenizer = AutoModelForSequenceClassification.from_pretrained("."), AutoTokenizer.from_pretrained(".")
logits = model(**tokenizer(["{text}"], truncation=True, padding=True, return_tensors="pt")).logits
print(model.config.id2label[int(logits.argmax())])
"""
KEPT = {
    "head": "the first {n} tokens", "tail": "the last {n} tokens", "head-tail": "the first 128 and the last tokens, {n} in all,",
}  # fmt: skip
POOLED = {
    "cls": "[CLS]", "pooler": "the pooler's output", "mean": "the mean over all tokens", "max": "the maximum over all tokens",
}  # fmt: skip


def write_card(folder: Path, record: dict, base_model: str | None = None, licence: str | None = None) -> None:
    """README.md in a folder that save_classifier wrote, out of the record of its run.

    base_model: the hub name, or the folder's own, of the encoder; licence: an identifier of the hub's, given by the user alone.
    """
    from huggingface_hub import EvalResult, ModelCardData

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    dataset = _corpus_name(record)
    where = {
        "task_type": "text-classification",
        "dataset_type": _slug(dataset),
        "dataset_name": dataset,
        "dataset_split": "test",
    }
    results = [
        EvalResult(
            **where, metric_type="accuracy", metric_value=record["test_accuracy"],
            metric_args={"interval_95_percent": list(record["test_accuracy_ci95"]), "documents": record["n_test"]},
        ),
        EvalResult(**where, metric_type="f1", metric_name="macro F1", metric_value=record["test_macro_f1"]),
    ]  # fmt: skip
    data = ModelCardData(
        pipeline_tag="text-classification", library_name="transformers", base_model=base_model, license=licence,
        tags=["text-classification", "twostage"], model_name=record["name"], eval_results=results,
    )  # fmt: skip
    write_text(folder / "README.md", f"---\n{data.to_yaml()}\n---\n\n{_page(record, config, base_model, dataset)}")


def name_of_base(model: str | Path) -> str:
    """What a hub would call the encoder: owner/name where it lies in the hub's cache, else its folder's name."""
    path = Path(model)
    for part in path.parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return _slug(path.name or "model") if path.is_absolute() or path.exists() else str(model)


def _page(record: dict, config: dict, base_model: str | None, dataset: str) -> str:
    settings, classes = config["twostage"], record["per_class"]
    native = config.get("model_type") != "twostage-bert"
    tuned = "its weights trained on" if record.get("encoder_lr") else "its weights as they were (frozen)"
    below = POOLED[settings["pooling"]]
    if layer := settings.get("encoder", {}).get("layer"):
        below += f" of layer {layer} (those after it are left out)"
    kept = KEPT.get(settings.get("truncation"), "{n} tokens").format(n=settings["max_length"])
    low, high = record["test_accuracy_ci95"]
    prefix = settings.get("encoder", {}).get("prefix", "")
    alone = "`truncation=True` does it"  # what transformers can do of what training did
    if settings.get("truncation") == "head-tail" or prefix:
        before = f", `{_plain(prefix)}` stood in front of every text" if prefix else ""
        alone = f"transformers alone cuts or begins a text differently{before}: `twostage.predict` does as in training"
    encoder = _plain(base_model) if base_model else "of BERT's family"
    rows = [
        f"| {_plain(one['label'])} | {one['support']:,} | {one['precision']:.3f} | {one['recall']:.3f} | {one['f1']:.3f} |"
        for one in classes
    ]
    return "\n".join([
        f"# {_plain(record['name'])}: texts into {len(classes)} classes",
        "",
        f"An encoder ({encoder}, {tuned}) and a {settings['head']} head on {below}, trained on "
        f"{record['n_train']:,} documents of {_plain(dataset)} with twostage {__version__}.",
        "",
        "## Use",
        "",
        "```python",
        (USE if native else USE_OURS).format(text="a text").rstrip(),
        "```",
        "",
        f"Longer texts are cut: {kept} are kept, special tokens included, as in training and in the test below; "
        f"{alone}.",
        "",
        "## Test",
        "",
        f"{record['n_test']:,} documents, scored once, with the epoch that was chosen on {record['n_val']:,} others: accuracy "
        f"{record['test_accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}), macro F1 {record['test_macro_f1']:.4f}.",
        "",
        "| class | documents | precision | recall | F1 |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def _corpus_name(record: dict) -> str:
    """The corpus by its own name; of a path its last part alone."""
    for place in (record.get("cache"), record.get("corpus")):
        if isinstance(place, dict):
            for name in ("corpus_name", "name", "corpus", "path"):
                if isinstance(place.get(name), str) and place[name]:
                    return re.split(r"[/\\]+", place[name].rstrip("/"))[-1]
    return "a corpus of its own"


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "corpus"


def _plain(name: str) -> str:
    """A name as text of a Markdown page or table, whatever is in it."""
    text = "".join(c if c.isprintable() else " " for c in name.encode("utf-8", "replace").decode())
    return re.sub(r"([\\`*_{}\[\]<>#|&~$])", r"\\\1", text)
