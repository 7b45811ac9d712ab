"""The Trainer's settings, and what happens when: which epoch's batches come next, when a checkpoint is due."""

import os
import time
import warnings
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainingArguments

from twostage import ranks
from twostage.finetuning.parts import TrainingPlan
from twostage.memory import peak_bytes


def arguments(plan: TrainingPlan, folder: Path, per_step: int) -> TrainingArguments:
    """The Trainer's settings: every one that would change the recipes in silence is off."""
    on_gpu = plan.device.type == "cuda"
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # BERT's buffers are constants
    if on_gpu:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(plan.device)
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=plan.micro_batch,
        gradient_accumulation_steps=per_step,
        num_train_epochs=plan.epochs,
        max_grad_norm=0.0,
        seed=plan.seed,
        use_cpu=not on_gpu,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        bf16=plan.dtype == torch.bfloat16,
        fp16=plan.dtype == torch.float16,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        log_level="error",
    )
    if on_gpu:  # transformers would take cuda:0, and DataParallel where it sees several
        args.__dict__["_setup_devices"], args._n_gpu = plan.device, 1
        torch.cuda.set_device(plan.device)
    return args


class Epochs(TrainerCallback):
    """When what happens: which epoch's batches come next, when a checkpoint is due, what the progress line says."""

    def __init__(self, tuner):
        self.tuner, self.shown = tuner, 0.0

    def on_train_begin(self, args, state, control, **_):
        self.tuner.saved = time.monotonic()

    def on_epoch_begin(self, args, state, control, **_):
        self.tuner.sampler.epoch = state.global_step // self.tuner.sampler.steps + 1

    def on_step_end(self, args, state, control, **_):
        tuner, now = self.tuner, time.monotonic()
        last = state.global_step % tuner.sampler.steps == 0
        tuner.skipped += tuner.accelerator.optimizer_step_was_skipped  # by float16's loss scaler
        due, shown = ranks.agreed(now - tuner.saved >= 60 * tuner.plan.checkpoint_minutes, now - self.shown > 2)
        if due and not last:  # an epoch's end has its own
            control.should_save = True
        figures = {}
        if shown:
            self.shown = now
            accuracy = tuner.tick()
            figures = {"loss": f"{tuner.so_far.loss / tuner.so_far.weight:.3f}", "accuracy": f"{accuracy:.3f}"}
            figures["memory"] = f"{peak_bytes(tuner.plan.device) / 1e9:.2f} GB"
        rest = len(tuner.rows) - (tuner.sampler.steps - 1) * tuner.plan.batch_size
        tuner.bar.advance(rest if last else tuner.plan.batch_size, **figures)

    def on_epoch_end(self, args, state, control, **_):
        self.tuner.end_epoch()
        control.should_save = True
