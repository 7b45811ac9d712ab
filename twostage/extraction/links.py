"""Messages between rank 0 and each other rank: a word, and arrays by name.

They go over gloo, between GPUs too: what they carry lies in the host's memory anyway. A rank that ends is noticed at once, one
that hangs after SILENCE_SECONDS.
"""

import threading
from contextlib import suppress
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from safetensors.numpy import load, save

from twostage import ranks
from twostage.errors import BadInput

SILENCE_SECONDS = 30.0  # without a word from a rank it is given up
ALIVE_SECONDS = 5.0  # between two words of one who has nothing to say


class Link:
    """Messages to and from one other rank: a word, and arrays by name. One thread may send while another receives."""

    def __init__(self, other: int, group):
        self.other, self.group, self.host, self.sending = other, group, "?", threading.Lock()

    def send(self, word: str, **arrays) -> None:
        """Send, and return when it is on its way. BadInput where the other rank is gone."""
        data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()} | {"word": as_bytes(word)})
        with self.sending:
            self._wait("isend", torch.tensor([len(data)]))
            self._wait("isend", torch.frombuffer(bytearray(data), dtype=torch.uint8))

    def receive(self) -> tuple[str, dict]:
        """The next word, with its arrays. BadInput where the other rank is gone, or silent for SILENCE_SECONDS."""
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
        try:
            getattr(dist, verb)(tensor, self.other, group=self.group).wait(timedelta(seconds=SILENCE_SECONDS))
        except RuntimeError:
            raise BadInput(f"{ranks.called(self.other, self.host)} is gone: run the same command again to continue") from None


class Links:
    """A link from rank 0 to each other rank, from those one to rank 0. As a context manager: alive until it ends."""

    def __enter__(self) -> list[Link]:
        ranks.together(on_gpu=False)
        group = ranks.start(lambda wait: dist.new_group(backend="gloo", timeout=wait))  # of our own: the other may be in use
        self.links = [Link(other, group) for other in (range(1, ranks.size()) if ranks.rank() == 0 else [0])]
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
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)


def as_text(array: np.ndarray) -> str:
    return array.tobytes().decode("utf-8", "surrogateescape")
