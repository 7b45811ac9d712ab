"""What a trained classifier says of documents: batches of like length, no gradients, no dropout."""

import numpy as np
import torch

from twostage import ranks
from twostage.finetuning.dataset import TokenRows
from twostage.finetuning.parts import TrainingPlan
from twostage.models.classifier import BertClassifier
from twostage.progress import Progress


@torch.no_grad()
def scores(model: BertClassifier, rows: TokenRows, plan: TrainingPlan, pad: int, label: str) -> np.ndarray:
    """Logits (N, C) float32 in the order of `rows`: batches of like length, no gradients, no dropout.

    Of several ranks each scores its share, and all get all."""
    model.eval()
    order = np.argsort(rows.length, kind="stable")
    budget = plan.micro_batch * int(rows.length.max(initial=1))  # tokens: what fits with gradients fits without
    logits, turn = np.zeros((len(rows), model.config.num_labels), np.float32), 0
    with Progress(len(rows), "documents", label) as progress:
        end = len(order)
        while end:  # the longest first, so that a lack of memory shows at once
            size = max(1, budget // int(rows.length[order[end - 1]]))
            part = order[max(0, end - size) : end]
            end, turn = end - len(part), turn + 1
            progress.advance(len(part))
            if turn % ranks.size() != ranks.rank():
                continue
            batch = rows.batch(part.tolist(), pad)
            batch.pop("labels")
            inputs = {name: tensor.to(plan.device) for name, tensor in batch.items()}
            with torch.autocast(plan.device.type, plan.dtype, enabled=plan.dtype != torch.float32):
                logits[part] = model(**inputs).logits.float().cpu().numpy()
    return ranks.added(torch.from_numpy(logits)).numpy()
