"""What a declaration of run.json is made of: a key with its meaning, numbers with their ranges; and how a value is held
against it."""

import dataclasses
import functools
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST = 2**63 - 1
# A number carries its range: Annotated[type, lowest, highest].
Number = Annotated[float, -1e300, 1e300]
Share = Annotated[float, 0, 1]
Positive = Annotated[float, 0, 1e300]
Count = Annotated[int, 0, LARGEST]


def key(meaning: str):
    """A key of run.json and what it means. One whose type allows None may be absent: it does not apply, or the run is older."""
    return dataclasses.field(metadata={"meaning": meaning})


def required(hint) -> bool:
    return type(None) not in get_args(hint)


@functools.cache
def hints_of(kind: type) -> dict:
    return get_type_hints(kind, include_extras=True)


def need(fine: Any, told: str) -> None:
    if not fine:
        raise ValueError(told)


def fit(value: Any, hint: Any, where: str = "") -> None:
    """ValueError, naming the key, unless the value is of this type and in its range."""
    kind, parts = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        need(isinstance(value, dict), f"{where or 'run.json'} is not an object")
        hints = hints_of(hint)
        for field in dataclasses.fields(hint):
            inner = f"{where}.{field.name}" if where else field.name
            if field.name in value:
                fit(value[field.name], hints[field.name], inner)
            else:
                need(not required(hints[field.name]), f"{inner} is missing")
    elif kind is Annotated:
        fit(value, parts[0], where)
        need(parts[1] <= value <= parts[2], f"{where} is outside {parts[1]:g} to {parts[2]:g}")
    elif kind in (Union, types.UnionType):
        told = ""
        for part in parts:
            try:
                return fit(value, part, where)
            except ValueError as error:
                told = told or str(error)
        raise ValueError(told)
    elif kind is Literal:
        need(value in parts, f"{where} is {value!r}"[:80])
    elif kind is dict:
        need(isinstance(value, dict), f"{where} is not an object")
        for one in value.values():
            fit(one, parts[1], where)
    elif kind is list:
        need(isinstance(value, list), f"{where} is not a list")
        for one in value:
            fit(one, parts[0], where)
    else:
        numbers = (int, float) if hint is float else hint
        need(isinstance(value, numbers) and (hint is bool or not isinstance(value, bool)), f"{where} has the wrong type")
    return None
