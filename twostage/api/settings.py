"""What a setting may be, said once: the calls are held to it before any work, and the options of the scripts are made from it."""

from numbers import Integral, Real

from twostage.errors import BadInput

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
BOUNDS = {"weight_decay": (0, 1000), "warmup_fraction": (0, 1), "checkpoint_minutes": (0, 1e6)}
AUTO = ("micro_batch",)  # which may be the word "auto" instead


def check(**settings) -> None:
    """BadInput naming the first of these that is not what it may be. None is not given; lists are held to it value by value;
    what the tables above do not name passes."""
    for name, given in settings.items():
        for value in given if isinstance(given, list | tuple) else [given]:
            if value is None or (name in AUTO and value == "auto"):
                continue
            if name in CHOICES and value not in CHOICES[name]:
                *some, last = CHOICES[name]
                raise BadInput(f"{name}={value!r}: give {', '.join(some)} or {last}")
            if name in SMALLEST and not (_is(value, Integral) and value >= SMALLEST[name]):
                raise BadInput(f"{name}={value!r}: give {whole_number_of(name)}")
            if name in BOUNDS:
                low, high = BOUNDS[name]
                if not (_is(value, Real) and low <= value <= high):
                    raise BadInput(f"{name}={value!r}: give a number from {low:g} to {high:g}")


def whole_number_of(name: str) -> str:
    """What a setting must be, in words: auto or a whole number of at least 1."""
    return f"{'auto or ' if name in AUTO else ''}a whole number of at least {SMALLEST.get(name, 1)}"


def _is(value, kind) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
