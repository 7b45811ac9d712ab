"""The micro-batch of `auto`: the largest that memory holds, and on a CPU its caches; found before the first optimizer step."""

import gc

import torch

from twostage.errors import BadInput
from twostage.memory import available_bytes, is_out_of_memory
from twostage.models.classifier import BertClassifier

CPU_TOKENS = 4096  # a micro-batch on a CPU: with more, activations leave the caches and memory is slower than arithmetic
SAFETY = 1.25  # for what a measured pass does not show: work space of single operations, gaps between allocations


def fit_micro_batch(model: BertClassifier, plan, longest: int, average: float | None = None) -> int:
    """The largest of batch_size, batch_size/2, ... 1 whose forward and backward pass fits at `longest` tokens.

    On a GPU it is tried, with the room that Adam's moments will take held back; on the CPU, where a process that takes too
    much is killed, it is computed from the bytes that one document's pass is measured to keep. There it is also no more than
    CPU_TOKENS at `average` tokens a document: by rule and not by stopwatch. The random stream and the gradients are left as
    they were. BadInput when not even one document fits: it says what would.
    """
    sizes = [plan.batch_size]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    if plan.device.type == "cpu" and average:
        sizes = [size for size in sizes if size * average <= CPU_TOKENS] or [1]
    fits = _tried(model, plan) if plan.device.type == "cuda" else _computed(model, plan)
    for size in sizes:
        if fits(size, longest):
            return size
    shorter = longest
    while shorter > 8 and not fits(1, shorter):
        shorter //= 2
    ways = [f"--max-length {shorter} would fit"] if fits(1, shorter) else []
    ways += [] if plan.activation_checkpointing else ["--activation-checkpointing takes several times less"]
    raise BadInput(
        f"not enough memory on {plan.device} to train on one document of {longest} tokens: "
        + ("; ".join(ways) or "use a smaller model, or a machine with more")
    )


def _tried(model, plan):
    def fits(size: int, tokens: int) -> bool:
        held = []
        try:
            with torch.random.fork_rng(devices=[plan.device]):
                for p in model.parameters():
                    held += [torch.empty_like(p), torch.empty_like(p)] if p.requires_grad else []
                _one_pass(model, plan, size, tokens)
            return True
        except RuntimeError as error:  # OutOfMemoryError is one, and not the only way to say it
            if not is_out_of_memory(error):
                raise
            return False
        finally:
            del held
            model.zero_grad(set_to_none=True)
            gc.collect()
            torch.cuda.empty_cache()

    return fits


def _computed(model, plan):
    free = available_bytes(plan.device)
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)

    def fits(size: int, tokens: int) -> bool:
        if free is None:
            return True
        left = free - 3 * trained  # gradients and two moments
        if SAFETY * _floor_bytes(model, tokens) > left:
            return False
        if tokens not in measured:
            measured[tokens] = _bytes_kept(model, plan, tokens, left)
        fixed, each = measured[tokens]
        return SAFETY * (fixed + size * each) < left

    measured: dict[int, tuple[int, int]] = {}
    return fits


def _floor_bytes(model, tokens: int) -> int:
    """What one document needs at the very least, so that a hopeless one is never tried: one layer's attention and MLP."""
    c = model.config
    return 4 * tokens * (c.num_attention_heads * tokens + c.intermediate_size + 4 * c.hidden_size)


def _bytes_kept(model, plan, tokens: int, left: float) -> tuple[int, int]:
    """Bytes that autograd keeps between forward and backward: once, as half-precision copies of weights, and for each document.

    Two documents are passed to tell the one from the other, unless `left` bytes might not take them."""
    one = _kept_by(model, plan, 1, tokens)
    two = _kept_by(model, plan, 2, tokens) if 2 * SAFETY * one < left else 2 * one
    return max(0, 2 * one - two), two - one


def _kept_by(model, plan, size: int, tokens: int) -> int:
    """Bytes kept by the forward pass of `size` documents; each piece of memory is counted once."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def count(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = _forward(model, plan, size, tokens)
    total = sum(kept.values())
    del loss
    if plan.activation_checkpointing and not model.encoder_frozen:  # plus one layer at a time, computed again
        total += size * 3 * _floor_bytes(model, tokens)
    return total


def _forward(model, plan, size: int, tokens: int) -> torch.Tensor:
    model.train()
    ids = torch.ones((size, tokens), dtype=torch.int64, device=plan.device)
    mask = torch.ones_like(ids)
    if size > 1:
        mask[0, -1] = 0  # with padding: the costlier attention
    with torch.autocast(plan.device.type, plan.dtype, enabled=plan.dtype != torch.float32):
        logits = model(ids, attention_mask=mask).logits.float()
    return logits.logsumexp(1).sum()


def _one_pass(model, plan, size: int, tokens: int) -> None:
    _forward(model, plan, size, tokens).backward()
