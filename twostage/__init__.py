"""twostage: encode a corpus with frozen BERT once, train classifier heads from the cached vectors, fine-tune where it pays.

import twostage as ts

cache = ts.extract("THUCNews", model="bert-base-chinese", max_length=256)
found = ts.sweep(cache)

Nothing heavy is loaded before a name is used; docs/api.md has them all.
"""

from importlib import import_module

__version__ = "0.2.0"
SPLITS = ("train", "val", "test")

_HOME = {
    "read_corpus": "api.extraction", "extract": "api.extraction", "audit": "api.extraction",
    "open_cache": "api.training", "train": "api.training", "sweep": "api.training",
    "finetune": "api.finetuning", "load_run": "api.run", "write_report": "report.build", "BadInput": "errors",
}  # fmt: skip
__all__ = [
    "BadInput", "audit", "extract", "finetune", "load_run", "open_cache", "read_corpus", "sweep", "train", "write_report",
]  # fmt: skip


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'twostage' has no attribute {name!r}")
    found = getattr(import_module(f"twostage.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
