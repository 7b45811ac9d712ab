"""What a setting may be, said once: the calls are held to it before any work, and the options of the scripts are made from it."""

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


def whole_number_of(name: str) -> str:
    """What a setting must be, in words: auto or a whole number of at least 1."""
    return f"{'auto or ' if name in AUTO else ''}a whole number of at least {SMALLEST.get(name, 1)}"


def largest(name: str) -> int:
    return LARGEST.get(name, LARGEST_OF_ALL)
