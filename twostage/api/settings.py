"""What a setting may be, said once: the calls are held to it before any work, and the options of the scripts are made from it."""

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import ParamSpec, TypeVar, get_args, get_origin

from twostage.errors import BadInput, shown

CHOICES = {
    "truncation": ("head", "tail", "head-tail"),
    "store_dtype": ("float16", "float32"),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "on_undecodable": ("fail", "skip", "replace"),
    "head": ("1C", "3C", "3C-big"),
    "activation": ("relu", "gelu", "tanh", "none"),
    "class_weight": ("none", "balanced"),
}
SMALLEST = {  # of whole numbers
    "max_length": 3, "per_class": 1, "tokens_per_batch": 1, "epochs": 1, "batch_size": 1, "micro_batch": 1, "seeds": 1, "seed": 0,
}  # fmt: skip
LARGEST = {"seeds": 10_000}
LARGEST_OF_ALL = 2**31 - 1  # what numpy and torch take for a seed or a size, on any machine
BOUNDS = {"weight_decay": (0, 1000), "warmup_fraction": (0, 1), "checkpoint_minutes": (0, 1e6)}
AUTO = ("micro_batch",)  # which may be the word "auto" instead

P, R = ParamSpec("P"), TypeVar("R")


def held(call: Callable[P, R]) -> Callable[P, R]:
    """`call`, its arguments held to the tables above and to their annotations before any work: BadInput names the first that is
    not what it may be.

    What can be gone through (an array, a Series, a range) becomes a list where a list may stand, numpy's numbers become Python's,
    a torch.device its name. What has no annotation passes as it is.
    """
    return held_with(lambda: None)(call)


def held_with(onward: Callable) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The same where **keywords go on to another function: they are held to the annotations of that one."""
    further = inspect.signature(onward).parameters

    def decorate(call: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(call)

        @functools.wraps(call)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{call.__name__}: {error}") from None
            for name, value in given.arguments.items():
                parameter = signature.parameters[name]
                if parameter.kind is parameter.VAR_KEYWORD:
                    if unknown := value.keys() - further.keys():
                        raise TypeError(f"{call.__name__}: got an unexpected keyword argument {min(unknown)!r}")
                    given.arguments[name] = {key: _as_meant(key, one, further[key].annotation) for key, one in value.items()}
                else:
                    given.arguments[name] = _as_meant(name, value, parameter.annotation)
            return call(*given.args, **given.kwargs)

        return checked

    return decorate


def several(value) -> bool:
    """Whether a setting is given as a list, or as anything else that one can go through."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes) and getattr(value, "ndim", 1) > 0


def whole_number_of(name: str) -> str:
    """What a setting must be, in words: auto or a whole number of at least 1."""
    return f"{'auto or ' if name in AUTO else ''}a whole number of at least {SMALLEST.get(name, 1)}"


def largest(name: str) -> int:
    return LARGEST.get(name, LARGEST_OF_ALL)


def _as_meant(name: str, value, kind):
    if kind is inspect.Parameter.empty:
        return value
    if several(value) and any(list in (one, get_origin(one)) for one in _kinds(kind)):
        value = [_plain(one) for one in value]
        if not value:
            raise BadInput(f"{name} is an empty list: give at least one")
    value = str(value) if name == "device" else _plain(value)
    for one in value if isinstance(value, list | tuple) else [value]:
        _check(name, one)
    if not _fits(value, kind):
        raise BadInput(f"{_told(name, value)}: give {_words(name, kind)}")
    return value


def _plain(value):
    """A number of numpy's or torch's as Python's."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _check(name: str, value) -> None:
    """BadInput where a single value is not what the tables say; None is a matter of the annotation."""
    if value is None or (name in AUTO and value == "auto"):
        return
    refused = f"{_told(name, value)}: give"
    if name in CHOICES and value not in CHOICES[name]:
        raise BadInput(f"{refused} {_words(name, str)}")
    if name in SMALLEST:
        if not (_fits(value, int) and value >= SMALLEST[name]):
            raise BadInput(f"{refused} {_words(name, int)}")
        if value > largest(name):
            raise BadInput(f"{refused} at most {largest(name):,}")
    if name in BOUNDS and not (_fits(value, float) and BOUNDS[name][0] <= value <= BOUNDS[name][1]):
        raise BadInput(f"{refused} {_words(name, float)}")


def _told(name: str, value) -> str:
    simple = isinstance(value, str | bytes | int | float | list | tuple | NoneType)
    return f"{name}={shown(repr(value)[:80])}" if simple else f"{name} is of type {type(value).__name__}"


def _kinds(kind) -> tuple:
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _fits(value, kind) -> bool:
    """Whether a value is of an annotation: a whole number is a number, True is none, a list is held to what it is a list of."""
    if isinstance(kind, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(one, *get_args(kind)) for one in value)
    if kind in (int, float):
        return isinstance(value, {int: Integral, float: Real}[kind]) and not isinstance(value, bool)
    return isinstance(value, os.PathLike if kind is Path else kind)


def _words(name: str, kind) -> str:
    """What a setting may be, for a message."""
    if name in CHOICES:
        *some, last = CHOICES[name]
        return f"{', '.join(some)} or {last}"
    if name in SMALLEST:
        return whole_number_of(name)
    if name in BOUNDS:
        return "a number from {:g} to {:g}".format(*BOUNDS[name])
    one = {int: "a whole number", float: "a number", str: "a string", bool: "True or False", Path: "a path", list: "a list"}
    many = {int: "whole numbers", float: "numbers", str: "strings"}
    found = [
        f"a list of {many[get_args(part)[0]]}" if get_origin(part) is list else one.get(part) or f"a {part.__name__}"
        for part in _kinds(kind)
        if part is not NoneType
    ]
    return " or ".join([", ".join(found[:-1]), found[-1]] if found[1:] else found)
