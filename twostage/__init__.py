"""twostage: encode a corpus with frozen BERT once, train classifier heads from the cached vectors, fine-tune where it pays."""

__version__ = "0.1.0"
SPLITS = ("train", "val", "test")
