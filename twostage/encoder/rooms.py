"""Matrices that a lane uses again and again: fresh memory of their size costs page faults each time."""

import math
import threading

import torch


class Rooms(threading.local):
    def __call__(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """This thread's matrix of that name, with whatever stands in it: gone when the name is asked for again."""
        flat = self.__dict__.get(name)
        if flat is None or flat.dtype != dtype or len(flat) < math.prod(shape):
            with torch.inference_mode(False):
                flat = self.__dict__[name] = torch.empty(math.prod(shape), dtype=dtype)
        return flat[: math.prod(shape)].view(shape)


room = Rooms()
