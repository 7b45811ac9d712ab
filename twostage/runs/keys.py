"""What a declaration of run.json is made of: a key with its meaning, and numbers with their ranges."""

import dataclasses
from dataclasses import MISSING
from typing import Annotated

LARGEST = 2**63 - 1
# A number carries its range: Annotated[type, lowest, highest].
Number = Annotated[float, -1e300, 1e300]
Share = Annotated[float, 0, 1]
Positive = Annotated[float, 0, 1e300]
Count = Annotated[int, 0, LARGEST]


def key(meaning: str, *, required: bool = False):
    """A key of run.json and what it means; None or absent where it does not apply, unless it is `required`."""
    return dataclasses.field(default=MISSING if required else None, metadata={"meaning": meaning})
