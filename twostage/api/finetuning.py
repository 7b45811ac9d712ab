"""End to end as a call: the encoder and a classifier on its [CLS] vectors are trained together."""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np

from twostage import SPLITS, ranks
from twostage.api.arguments import held_with
from twostage.api.extraction import read, resolve
from twostage.api.run import FinishedRun
from twostage.api.training import many
from twostage.corpus.reader import Corpus, read_corpus
from twostage.encoder.checkpoint import find_model
from twostage.encoder.encoder import emulated, load_tokenizer, resolve_device, resolve_dtype
from twostage.encoder.remarks import remarks
from twostage.encoder.settings import encoder_settings
from twostage.encoder.tokenizer import Tokens
from twostage.errors import BadInput, shown
from twostage.finetuning.dataset import tokenize
from twostage.finetuning.jobs import FinetuneSettings, jobs_of, something_to_resume
from twostage.finetuning.run import FinetuneInputs, train_job
from twostage.progress import say, spoken
from twostage.report.build import write_report
from twostage.report.tables import comparison_lines
from twostage.runs.events import require_tensorboard


@held_with(read_corpus)
def finetune(
    corpus,
    *,
    recipe: str | list[str] | None = None,
    head: str | None = None,
    encoder_lr: float | None = None,
    head_lr: float | None = None,
    epochs: int | None = None,
    model: str | Path | None = None,
    max_length: int = 512,
    truncation: str = "head",
    prefix: str = "",
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 64,
    micro_batch: int | str = "auto",
    activation_checkpointing: bool = False,
    checkpoint_minutes: float = 5.0,
    warmup_fraction: float = 0.0,
    weight_decay: float = 0.0,
    class_weight: str = "none",
    activation: str = "relu",
    init_head: str | Path | None = None,
    lr_scale: float = 1.0,
    resume: bool = False,
    tensorboard: bool = False,
    seed: int = 0,
    runs_dir: str | Path = "runs",
    cache_dir: str | Path = "cache",
    progress: bool = False,
    **reading,
) -> FinishedRun | list[FinishedRun]:
    """Train an encoder and a classifier end to end, one run folder per recipe; test is scored once, at the epoch best on val.

    corpus: a Corpus, or whatever `read_corpus` takes with its keyword arguments. recipe: B4C3 (the default), B4C4, B4 or a
    list of them; or `encoder_lr` and `head_lr` of one's own, a part without a rate being frozen. micro_batch: documents at a
    time, which changes memory and never the result. resume: continue the newest incomplete run with these settings.
    tensorboard: event files beside metrics.jsonl.
    Returns one run, or a list where a list of recipes was given.

    BadInput: the corpus, the model or a setting cannot be used; nothing to resume; out of memory, with what to do.
    """
    settings = FinetuneSettings(
        runs_dir=Path(runs_dir), seed=seed, activation=activation, init_head=init_head and Path(init_head), lr_scale=lr_scale,
        batch_size=batch_size, micro_batch=micro_batch, weight_decay=weight_decay, warmup_fraction=warmup_fraction,
        class_weight=class_weight, activation_checkpointing=activation_checkpointing, checkpoint_minutes=checkpoint_minutes,
        resume=resume, tensorboard=tensorboard,
    )  # fmt: skip
    if tensorboard:
        require_tensorboard()
    with spoken(progress):
        jobs = jobs_of(settings, many(recipe), head, encoder_lr, head_lr, epochs)
        device = resolve_device(device)
        ranks.together(on_gpu=device != "cpu")
        if resume and not ranks.rank():
            something_to_resume(settings.runs_dir, jobs)
        check_writable(settings.runs_dir)

        # All that can be wrong with the corpus and the model shows before any work.
        with ranks.first_alone():  # which may build the demo
            source, model = resolve(corpus, model, cache_dir)
        corpus = read(source, **reading)
        check_splits(corpus)
        folder = find_model(model)
        dtype = resolve_dtype(dtype, device)
        if dtype == "float16" and device == "cpu":
            raise BadInput("--dtype float16 trains on a GPU only: give float32 or bfloat16")
        encoder = encoder_settings(
            folder, max_length=max_length, truncation=truncation, pooling="cls", compute_dtype=dtype, prefix=prefix
        )
        ranks.check_same("the corpus", corpus_digest(corpus))
        ranks.check_same("the model", json.dumps(encoder))
        tokenizer = load_tokenizer(folder)
        for line in remarks(folder, tokenizer.backend_tokenizer, "cls") + emulated(dtype, device):
            say(line)

        # Every document tokenized, once for all runs and epochs.
        tokens = Tokens(tokenizer, max_length, truncation, prefix)
        rows = {
            name: tokenize(corpus, np.flatnonzero(corpus.split == number), tokens, f"tokenizing {name}")
            for number, name in enumerate(SPLITS)
        }
        inputs = FinetuneInputs(corpus, folder, tokenizer, rows, encoder, device, dtype)
        about = {
            "corpus": {"name": corpus.name, "format": corpus.format, **corpus.told},
            "corpus_digest": corpus_digest(corpus),
        }
        runs = []
        for job in jobs:
            runs.append(FinishedRun.of(train_job(inputs, settings, job, about)))
            if not ranks.rank():
                write_report(settings.runs_dir)
        return runs if isinstance(recipe, list) else runs[0]


def against_frozen(run: FinishedRun) -> str:
    """What fine-tuning bought over the best frozen head on the same test documents: a small table and a sentence."""
    return "\n".join(comparison_lines(run.record["against_frozen"]))


def corpus_digest(corpus: Corpus) -> str:
    """sha256 in hex over digest, label and split of each document in order: two corpora that train alike."""
    total = hashlib.sha256(np.ascontiguousarray(corpus.digest))
    total.update(np.ascontiguousarray(corpus.label, "<i4"))
    total.update(np.ascontiguousarray(corpus.split, np.uint8))
    return total.hexdigest()


def check_writable(runs_dir: Path) -> None:
    """BadInput where no run could be written, before any work."""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs_dir):
            pass
    except OSError as error:
        raise BadInput(f"cannot write to {runs_dir} ({error.strerror}): give a --runs-dir that can be written to") from None


def check_splits(corpus: Corpus) -> None:
    """BadInput for an empty split or a train with one class; classes that train lacks are reported."""
    for number, name in enumerate(SPLITS):
        if not (corpus.split == number).any():
            raise BadInput(
                f"{shown(corpus.name)}: {name} is empty: {len(corpus):,} documents are too few; give more, or a larger --per-class"
            )
    if len(set(corpus.label[corpus.split == 0].tolist())) < 2:
        raise BadInput(f"{shown(corpus.name)}: train has a single class; a classifier needs at least two")
    absent = corpus.classes_without_train()
    if absent:
        say(f"classes without a document in train, which cannot be learned: {', '.join(map(shown, absent))}")
