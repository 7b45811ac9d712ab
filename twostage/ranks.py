"""Which of several processes this one is, as torchrun (and so Slurm or Kubernetes) says, and messages between them.

Rank 0 works as one process would, and alone speaks; the others do what it deals them. Messages go over gloo, between GPUs too:
what they carry lies in the host's memory anyway. Nothing heavy is imported before there are several processes.
"""

import os
import socket
import threading
from contextlib import suppress
from datetime import timedelta

from twostage.errors import BadInput

START_SECONDS = 300.0  # in which all ranks must have come: nodes import torch at their own speed
SILENCE_SECONDS = 30.0  # without a word from a rank it is given up
ALIVE_SECONDS = 5.0  # between two words of one who has nothing to say


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
    """Let the tokenizers of this machine's processes share its processors, as torchrun does for torch alone.

    To be called before tokenizers is imported."""
    if local_size() > 1:
        os.environ.setdefault("RAYON_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // local_size())))


def name(of: int, host: str) -> str:
    return f"rank {of} on {host}"


class Link:
    """Messages to and from one other rank: a word, and arrays by name. One thread may send while another receives."""

    def __init__(self, other: int, group):
        self.other, self.group, self.host, self.sending = other, group, "?", threading.Lock()

    def send(self, word: str, **arrays) -> None:
        """Send, and return when it is on its way. BadInput where the other rank is gone."""
        import numpy as np
        import torch
        from safetensors.numpy import save

        data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()} | {"word": as_bytes(word)})
        with self.sending:
            self._wait("isend", torch.tensor([len(data)]))
            self._wait("isend", torch.frombuffer(bytearray(data), dtype=torch.uint8))

    def receive(self) -> tuple[str, dict]:
        """The next word, with its arrays. BadInput where the other rank is gone, or silent for SILENCE_SECONDS."""
        import torch
        from safetensors.numpy import load

        while True:
            length = torch.zeros(1, dtype=torch.int64)
            self._wait("irecv", length)
            data = torch.empty(int(length), dtype=torch.uint8)
            self._wait("irecv", data)
            arrays = load(data.numpy().tobytes())
            word = as_text(arrays.pop("word"))
            if word != "alive":
                return word, arrays

    def _wait(self, verb: str, tensor) -> None:
        import torch.distributed as dist

        try:
            getattr(dist, verb)(tensor, self.other, group=self.group).wait(timedelta(seconds=SILENCE_SECONDS))
        except RuntimeError:
            raise BadInput(f"{name(self.other, self.host)} is gone: run the same command again to go on") from None


class Links:
    """A link from rank 0 to each other rank, from those one to rank 0. As a context manager: alive until it ends."""

    def __enter__(self) -> list[Link]:
        import torch.distributed as dist

        wait = timedelta(seconds=START_SECONDS)
        try:
            if not dist.is_initialized():
                dist.init_process_group("gloo", timeout=wait)
            group = dist.new_group(backend="gloo", timeout=wait)  # of our own: whoever calls may use the other
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().split("\n")[0][:160]
            raise BadInput(f"the {size()} ranks did not come together ({reason}): start them anew") from None
        self.links = [Link(other, group) for other in (range(1, size()) if rank() == 0 else [0])]
        self.ended = threading.Event()
        self.heart = threading.Thread(target=self._beat, daemon=True)
        self.heart.start()
        return self.links

    def __exit__(self, *error) -> None:
        self.ended.set()
        self.heart.join()

    def _beat(self) -> None:
        with suppress(BadInput):  # who receives says that a rank is gone
            while not self.ended.wait(ALIVE_SECONDS):
                for link in self.links:
                    link.send("alive")


def as_bytes(text: str):
    """A text as an array of bytes, for a message."""
    import numpy as np

    return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)


def as_text(array) -> str:
    return array.tobytes().decode("utf-8", "surrogateescape")


def host() -> str:
    return socket.gethostname()
