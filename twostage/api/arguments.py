"""The arguments of a call held to what they may be, before any work."""

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import ParamSpec, TypeVar, get_args, get_origin

from twostage.api.settings import AUTO, BOUNDS, CHOICES, SMALLEST, largest, whole_number_of
from twostage.errors import BadInput, shown

P, R = ParamSpec("P"), TypeVar("R")
ONE = {int: "a whole number", float: "a number", str: "a string", bool: "True or False", Path: "a path", list: "a list"}
MANY = {int: "whole numbers", float: "numbers", str: "strings"}


def held(call: Callable[P, R]) -> Callable[P, R]:
    """`call`, its arguments held to the tables of settings.py and to their annotations: BadInput names the first that is not what it
    may be.

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
            given = signature.bind(*args, **kwargs)
            for name, value in given.arguments.items():
                parameter = signature.parameters[name]
                if parameter.kind is parameter.VAR_KEYWORD:
                    if unknown := value.keys() - further.keys():
                        raise TypeError(f"got an unexpected keyword argument {min(unknown)!r}")
                    given.arguments[name] = {key: _as_meant(key, one, further[key].annotation) for key, one in value.items()}
                else:
                    given.arguments[name] = _as_meant(name, value, parameter.annotation)
            return call(*given.args, **given.kwargs)

        return checked

    return decorate


def several(value) -> bool:
    """Whether a setting is given as a list, or as anything else that one can go through."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes) and getattr(value, "ndim", 1) > 0


def _as_meant(name: str, value, kind):
    if kind is inspect.Parameter.empty:
        return value
    if several(value) and any(list in (one, get_origin(one)) for one in _kinds(kind)):
        value = [_plain(one) for one in value]
        if not value:
            raise BadInput(f"{name} is an empty list: give at least one")
    value = str(value) if name == "device" else _plain(value)
    for one in value if isinstance(value, list | tuple) else [value]:
        if not _in_tables(name, one):
            raise BadInput(f"{_told(name, one)}: give {_words(name, kind)}")
        if name in SMALLEST and _fits(one, int) and one > largest(name):
            raise BadInput(f"{_told(name, one)}: give at most {largest(name):,}")
    if not _fits(value, kind):
        raise BadInput(f"{_told(name, value)}: give {_words(name, kind)}")
    return value


def _plain(value):
    """A number of numpy's or torch's as Python's."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _in_tables(name: str, value) -> bool:
    """Whether a single value is what the tables say; None is a matter of the annotation."""
    if value is None or (name in AUTO and _fits(value, str) and value == "auto"):
        return True
    if name in CHOICES:
        return _fits(value, str) and value in CHOICES[name]
    if name in SMALLEST:
        return _fits(value, int) and value >= SMALLEST[name]
    return name not in BOUNDS or (_fits(value, float) and BOUNDS[name][0] <= value <= BOUNDS[name][1])


def _kinds(kind) -> tuple:
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _fits(value, kind) -> bool:
    """Whether a value is of an annotation: a whole number is a number, True is none, a list is held to what it is a list of."""
    if isinstance(kind, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(one, *get_args(kind)) for one in value)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, os.PathLike if kind is Path else kind)


def _told(name: str, value) -> str:
    simple = isinstance(value, str | bytes | int | float | list | tuple | NoneType)
    return f"{name}={shown(repr(value)[:80])}" if simple else f"{name} is of type {type(value).__name__}"


def _words(name: str, kind) -> str:
    """What a setting may be, for a message."""
    if name in CHOICES:
        return _either(CHOICES[name])
    if name in SMALLEST:
        return whole_number_of(name)
    if name in BOUNDS:
        return "a number from {:g} to {:g}".format(*BOUNDS[name])
    kinds = [one for one in _kinds(kind) if one is not NoneType]
    return _either([
        f"a list of {MANY[get_args(one)[0]]}" if get_origin(one) is list else ONE.get(one) or f"a {one.__name__}" for one in kinds
    ])  # fmt: skip


def _either(words) -> str:
    *some, last = words
    return f"{', '.join(some)} or {last}" if some else last
