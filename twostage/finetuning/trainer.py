"""Fine-tuning on transformers' Trainer: what is trained at which rate, the loss, the epochs, and the checkpoints.

C classes, B documents in a micro-batch, T tokens.
"""

import hashlib
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, get_constant_schedule_with_warmup
from transformers.utils import logging

from twostage import metrics, ranks
from twostage.errors import BadInput
from twostage.files import write_tensors
from twostage.finetuning import checkpoints
from twostage.finetuning.batches import MicroBatches
from twostage.finetuning.dataset import IGNORED, TokenRows
from twostage.finetuning.parts import TrainingPlan, param_groups, prepare
from twostage.finetuning.schedule import Epochs, arguments
from twostage.finetuning.scoring import scores
from twostage.models.classifier import BertClassifier
from twostage.progress import Progress, say
from twostage.recipes import ADAM
from twostage.runs.folder import Run, best_epoch, write_json


@dataclass
class SoFar:
    """What a run has behind it; part of every checkpoint. Sums are over the documents of the epoch under way."""

    epochs: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    loss: float = 0.0
    weight: float = 0.0


class FineTuner(Trainer):
    """The Trainer with our batches, our loss and checkpoints that survive a kill.

    run: the run folder that is being written. pad: the id that fills up short rows.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, model: BertClassifier, plan: TrainingPlan, train: TokenRows, val: TokenRows, pad: int, run: Run):
        prepare(model, plan)
        logging.disable_progress_bar()
        self.plan, self.rows, self.val, self.pad, self.run = plan, train, val, pad, run
        self.sampler = MicroBatches(
            train.length, plan.batch_size, plan.micro_batch, plan.seed, rank=ranks.rank(), ranks=ranks.size()
        )
        self.weight = torch.ones(model.config.num_labels) if plan.class_weight is None else plan.class_weight.float()
        self.device_weight = self.weight.to(plan.device)
        self.so_far, self.resumed_at, self.skipped = SoFar(), None, 0
        fused = plan.device.type in ("cpu", "cuda")
        optimizer = torch.optim.AdamW(param_groups(model, plan), **ADAM, fused=fused)  # without decay AdamW is Adam
        warmup = math.ceil(plan.warmup_fraction * self.sampler.steps * plan.epochs)
        super().__init__(
            model=model,
            args=arguments(plan, run.path / "checkpoints", self.sampler.per_step),
            optimizers=(optimizer, get_constant_schedule_with_warmup(optimizer, warmup)),
            callbacks=[Epochs(self)],
        )
        self.remove_callback(PrinterCallback)
        self.sums = torch.zeros(4, dtype=torch.float64, device=plan.device)  # loss, weight, right, documents: see tick

    @property
    def best_weights(self) -> Path:
        """Where the weights of the best epoch so far are kept."""
        return self.run.path / "checkpoints" / f"best-{best_epoch(self.so_far.epochs)}.safetensors"

    def resume_from(self, checkpoint: Path) -> None:
        """Go on from a whole checkpoint when `fit` is called."""
        self.resumed_at = checkpoint
        self.so_far = SoFar(**json.loads((checkpoint / "progress.json").read_text(encoding="utf-8")))

    def fit(self) -> None:
        """Train all epochs that are left, then load the best epoch's weights. so_far holds what came of it."""
        documents, before = len(self.rows), 0
        if self.resumed_at is not None:
            epochs, steps = divmod(checkpoints.step_of(self.resumed_at), self.sampler.steps)
            before = epochs * documents + steps * self.plan.batch_size
        self.run.rewrite_log(self.so_far.epochs)
        if ranks.rank():
            self._own_random_stream(0)
        self.started = time.monotonic()
        with Progress(self.plan.epochs * documents, "documents", f"training {self.run.path.name}", before) as bar:
            self.bar = bar
            self.train(resume_from_checkpoint=None if self.resumed_at is None else str(self.resumed_at))
        self.tick()
        ranks.wait()  # the best weights are there
        self.model.load_state_dict(load_file(self.best_weights))

    def tick(self) -> float:
        """Move the time and the sums since the last call into so_far; the training accuracy since then. BadInput: diverged.

        The sums are those of all ranks, which call it together: so all of them raise, or none."""
        now, (loss, weight, right, n) = time.monotonic(), ranks.added(self.sums).tolist()
        self.so_far.seconds += now - self.started
        self.so_far.epoch_seconds += now - self.started
        self.so_far.loss += loss
        self.so_far.weight += weight
        self.started = now
        self.sums.zero_()
        if not math.isfinite(self.so_far.loss):
            ways = ", --dtype float32" if self.plan.dtype == torch.float16 else ""
            raise BadInput(
                f"{self.run.path}: the loss is no longer a number in epoch {len(self.so_far.epochs) + 1}: "
                f"lower the learning rates, or use --warmup-fraction{ways}"
            )
        return right / max(n, 1)

    def get_train_dataloader(self) -> DataLoader:
        """Micro-batches of the global batches of sampler.epoch. Its own generator: the global one is left to dropout."""
        return DataLoader(
            self.rows,
            batch_sampler=self.sampler,
            collate_fn=lambda rows: self.rows.batch(rows, self.pad),
            generator=torch.Generator(),
        )

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """The micro-batches of one optimizer step, and the weight of all their documents together, a rank's mean."""
        batches = list(islice(epoch_iterator, num_batches))
        total = sum(float(self._weights(batch["labels"], self.weight).sum(dtype=torch.float64)) for batch in batches)
        if ranks.size() > 1:
            total = (
                float(ranks.added(torch.tensor(total, dtype=torch.float64))) / ranks.size()
            )  # DDP takes the mean of gradients
        if self.plan.device.type == "cuda":  # pinned, so that the copy waits for nothing
            batches = [
                {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()} for batch in batches
            ]
        return batches, total

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Cross entropy of one micro-batch, as its share of the global batch's weighted mean."""
        labels = inputs.pop("labels")
        logits = model(**inputs).logits.float()  # (B, C)
        loss = F.cross_entropy(logits, labels, weight=self.device_weight, reduction="sum")
        right = (logits.detach().argmax(1) == labels).sum()
        weight = self._weights(labels, self.device_weight).sum()
        n = torch.full_like(weight, len(labels)) if ranks.size() == 1 else (labels != IGNORED).sum()
        self.sums += torch.stack([loss.detach(), weight, right, n])
        return loss / num_items_in_batch

    @staticmethod
    def _weights(labels: torch.Tensor, of_class: torch.Tensor) -> torch.Tensor:
        """(B,) of each document; what fills up the last batch of several ranks has none."""
        return of_class[labels] if ranks.size() == 1 else of_class[labels.clamp(min=0)] * (labels != IGNORED)

    def _own_random_stream(self, step: int) -> None:
        """Dropout that no other rank draws, for a step whose random state nobody kept."""
        torch.manual_seed(int.from_bytes(hashlib.sha256(f"{self.plan.seed} {ranks.rank()} {step}".encode()).digest()[:7]))

    def _load_rng_state(self, checkpoint):
        super()._load_rng_state(checkpoint)
        name = f"rng_state_{ranks.rank()}.pth" if ranks.size() > 1 else "rng_state.pth"
        if checkpoint is not None and not (Path(checkpoint) / name).exists():  # of another number of ranks
            self._own_random_stream(checkpoints.step_of(Path(checkpoint)))

    def _get_grad_norm(self, model, grad_norm=None):
        return grad_norm  # the Trainer would go over all gradients for a figure that nobody asked for

    def _save_checkpoint(self, model, trial):
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if not ranks.rank():
            shutil.rmtree(folder, ignore_errors=True)
        ranks.wait()
        trouble = None
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            trouble = error
        self.tick()  # by now every rank has left its random state
        self.saved = time.monotonic()
        if ranks.rank():
            return
        try:
            if trouble:
                raise trouble
            write_json(folder / "progress.json", asdict(self.so_far))
            checkpoints.seal(folder, self.best_weights if self.so_far.epochs else None)
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk: the last whole checkpoint still stands
            shutil.rmtree(folder, ignore_errors=True)
            say(f"could not write {folder} ({error}): training goes on without it")

    def end_epoch(self) -> None:
        """Score val, note the epoch, and keep the weights if it is the best so far."""
        self.tick()
        predicted = scores(self.model, self.val, self.plan, self.pad, "scoring val").argmax(1)
        counts = metrics.confusion(self.val.label, predicted, self.model.config.num_labels)
        self.tick()
        line = {
            "epoch": len(self.so_far.epochs) + 1,
            "train_loss": self.so_far.loss / self.so_far.weight,
            "val_accuracy": float(np.diag(counts).sum() / len(self.val)),
            "val_macro_f1": metrics.macro_f1(counts),
            "seconds": round(self.so_far.epoch_seconds, 3),
        }
        self.so_far.epochs.append(line)
        self.so_far.epoch_seconds = self.so_far.loss = self.so_far.weight = 0.0
        self.run.log(line)
        say(
            f"{self.run.path.name} epoch {line['epoch']}: train loss {line['train_loss']:.4f}, "
            f"val accuracy {line['val_accuracy']:.4f}, macro-F1 {line['val_macro_f1']:.4f}, {line['seconds']:.0f} s"
        )
        if self.skipped:
            say(f"{self.run.path.name}: in {self.skipped} of the epoch's steps float16 overflowed: they were skipped")
            self.skipped = 0
        if best_epoch(self.so_far.epochs) == line["epoch"] and not ranks.rank():
            write_tensors(self.best_weights, self.model.state_dict())
