"""What is worth saying of a checkpoint that can be read but may not be what its user takes it for."""

from pathlib import Path

from twostage.encoder.checkpoint import trained_pooling

CAPITALS = 0.03  # of the words of a vocabulary: an uncased one has none


def remarks(folder: Path, backend, poolings: list[str]) -> list[str]:
    """Sentences on the model in `folder`, whose tokenizer (of the package tokenizers) is `backend`, when it pools these ways."""
    found = []
    trained = trained_pooling(folder)
    if trained and trained not in poolings:
        way = f": --pooling {trained} gives those vectors" if trained in ("cls", "mean", "max") else ""
        found.append(f"{folder}: was trained with {trained} pooling, but {', '.join(poolings)} is asked for{way}")
    return found + _case(folder, backend)


def _case(folder: Path, backend) -> list[str]:
    """Whether vocabulary and tokenizer disagree about capitals, so that words are never met or become [UNK]."""
    words = [word.removeprefix("##") for word in backend.get_vocab()]
    words = [word for word in words if len(word) > 1 and word.isalpha() and word.lower() != word.upper()]
    capitals = sum(word != word.lower() for word in words)
    lowers = backend.normalizer is not None and backend.normalizer.normalize_str("ABC") == "abc"
    if lowers and capitals > CAPITALS * len(words):
        return [
            f"{folder}: {capitals:,} words of its vocabulary have capitals, and its tokenizer lowercases, so they are never used; "
            "is do_lower_case right in tokenizer_config.json?"
        ]
    unknown = getattr(backend.model, "unk_token", None)
    letters = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if backend.encode(c, add_special_tokens=False).tokens == [unknown]]
    if unknown and len(letters) > 20 and backend.encode("a", add_special_tokens=False).tokens == ["a"]:
        return [
            f"{folder}: its vocabulary has no capitals, and its tokenizer keeps them, so words with capitals become {unknown}; "
            "is do_lower_case right in tokenizer_config.json?"
        ]
    return []
