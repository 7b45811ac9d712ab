"""Which of several processes this one is, as torchrun (and so Slurm or Kubernetes) says, and what keeps them in step.

Rank 0 alone writes and speaks. With one process nothing here does anything, and nothing heavy is imported.
"""

import hashlib
import json
import os
import socket
from contextlib import contextmanager, suppress
from datetime import timedelta

from twostage.errors import BadInput

START_SECONDS = 300.0  # in which all ranks must have come: nodes import torch at their own speed
WIDTH = 64  # bytes of a host name
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited", "pair closure")


def size() -> int:
    """How many processes work together; 1 without torchrun. BadInput where the environment says no number."""
    return max(1, _number("WORLD_SIZE", "1"))


def rank() -> int:
    """This process among them, from 0."""
    if size() > 1 and "RANK" not in os.environ:
        raise BadInput(f"WORLD_SIZE is {size()} in the environment, but RANK is not set: start with torchrun, or unset it")
    return _number("RANK", "0") if size() > 1 else 0


def silent() -> bool:
    """Whether another rank speaks for this one. An environment that makes no sense silences nobody."""
    try:
        return rank() > 0
    except BadInput:
        return False


def several() -> bool:
    """Whether this process is one of many, as far as the environment makes sense."""
    try:
        return size() > 1
    except BadInput:
        return False


def local_rank() -> int:
    """This process among those of its machine: which GPU is its own."""
    return _number("LOCAL_RANK", "0") if size() > 1 else 0


def local_size() -> int:
    """Processes on this machine."""
    return max(1, _number("LOCAL_WORLD_SIZE", "1")) if size() > 1 else 1


def _number(name: str, default: str) -> int:
    text = os.environ.get(name) or default
    if not text.isdecimal():
        raise BadInput(f"{name} is {text!r} in the environment, not a whole number: start with torchrun, or unset it")
    return int(text)


def share_processors() -> None:
    """Let this machine's processes share its processors; torchrun sees to torch alone, Slurm to none.

    To be called before tokenizers and torch are imported."""
    if local_size() > 1:
        for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS"):  # the tokenizers' and torch's
            os.environ.setdefault(name, str(max(1, len(os.sched_getaffinity(0)) // local_size())))


def called(of: int, host: str) -> str:
    return f"rank {of} on {host}"


def start(begin):
    """Call begin(timeout), which brings all ranks together -> what it gives. BadInput where one does not come."""
    try:
        return begin(timedelta(seconds=START_SECONDS))
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise BadInput(f"the {size()} ranks did not connect ({reason}): start them again") from None


def together(on_gpu: bool) -> None:
    """Bring all ranks into torch's default process group, for those that work in step; alone, or again, it does nothing."""
    import torch.distributed as dist

    if size() > 1 and not dist.is_initialized():
        start(lambda wait: dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=wait))


def wait() -> None:
    """Wait until every rank is here."""
    agreed()


def agreed(*flags: bool) -> list[bool]:
    """Rank 0's answers, the same on every rank: what depends on a clock or a file must not differ between them."""
    if size() == 1:
        return list(flags)
    import torch
    import torch.distributed as dist

    values = torch.tensor([*flags, True], dtype=torch.int64)
    dist.broadcast(values, 0) if flags else dist.all_reduce(values)
    return [bool(value) for value in values[:-1].tolist()]


def from_first(value):
    """What rank 0 holds, on every rank: whatever JSON can hold."""
    if size() == 1:
        return value
    import torch
    import torch.distributed as dist

    data = json.dumps(value).encode()
    length = torch.tensor([len(data)])
    dist.broadcast(length, 0)
    said = torch.tensor(list(data), dtype=torch.uint8) if rank() == 0 else torch.empty(int(length), dtype=torch.uint8)
    dist.broadcast(said, 0)
    return json.loads(bytes(said.tolist()))


def added(tensor):
    """The sum of a tensor over all ranks, in place."""
    if size() > 1:
        import torch.distributed as dist

        dist.all_reduce(tensor)
    return tensor


def least(number: int) -> int:
    """The smallest number that any rank has."""
    if size() == 1:
        return number
    import torch
    import torch.distributed as dist

    value = torch.tensor([number])
    dist.all_reduce(value, dist.ReduceOp.MIN)
    return int(value)


@contextmanager
def first_alone():
    """Rank 0 goes through the body before all others: what it makes on disk, they find."""
    if rank():
        wait()
    yield
    if not rank():
        wait()


def check_same(what: str, digest: str) -> None:
    """BadInput on every rank where `digest` is not the same on all."""
    if size() == 1:
        return
    import torch
    import torch.distributed as dist

    name = socket.gethostname().encode()[:WIDTH]
    mine = torch.tensor(list(hashlib.sha256(digest.encode()).digest() + name.ljust(WIDTH, b"\0")), dtype=torch.uint8)
    found = [torch.empty_like(mine) for _ in range(size())]
    dist.all_gather(found, mine)
    for number, other in enumerate(found):
        if not torch.equal(other[:32], found[0][:32]):
            host = bytes(other[32:].tolist()).rstrip(b"\0").decode("utf-8", "replace")
            raise BadInput(f"{called(number, host)}: {what} differs from rank 0's: the same files must be on every machine")


def tell(text: str) -> None:
    """Leave word of what went wrong here, for rank 0 to say."""
    store = _store() if silent() else None
    if store is not None:
        with suppress(RuntimeError):
            store.set("twostage trouble", f"{called(rank(), socket.gethostname())}: {text}")


def trouble(error: BaseException) -> str | None:
    """What another rank left word of, or that it is gone, where that may be why this error came; None where it is not."""
    if not several():
        return None
    store = _store()
    if store is not None:
        with suppress(RuntimeError):
            if store.check(["twostage trouble"]):
                return store.get("twostage trouble").decode()
    lost = isinstance(error, RuntimeError) and any(sign in str(error) for sign in LOST)
    return "another rank is gone: run the same command again to continue" if lost else None


def _store():
    import sys

    if "torch" not in sys.modules or size() == 1:
        return None
    import torch.distributed as dist

    return dist.distributed_c10d._get_default_store() if dist.is_initialized() else None
