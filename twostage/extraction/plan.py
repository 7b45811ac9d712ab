"""What an extraction will do and cost, from a sample, before it starts."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from twostage.files import free_space
from twostage.progress import duration

SAMPLE = 512  # documents, evenly over the corpus
PERCENTILES = (5, 25, 50, 75, 95, 99, 100)
BAR = 40  # characters, the longest bar of the histogram
TIMED_SECONDS = 1.0  # of batches, to estimate the speed from


@dataclass
class Plan:
    """documents N, of which `encode` go through the encoder; tokens (S,) lengths of a sample without truncation.

    caches: the files, one a view, which take cache_bytes together."""

    documents: int
    classes: int
    done: int
    lent: int
    copies: int
    encode: int
    tokens: np.ndarray
    max_length: int
    tokens_per_character: float
    caches: list[Path]
    cache_bytes: int
    free_bytes: int
    on_gpu: bool = False
    ranks: int = 1  # processes that encode
    tokens_per_second: float = 0.0  # of the encoder alone
    prepare_seconds: float = 0.0  # a document, to read and to tokenize it
    warm_up: float = 0.0
    same_bits: bool = True
    texts: list[str] = field(default_factory=list)  # of the sample

    @property
    def mean_tokens(self) -> float:
        """Tokens of a document after truncation, on average over the sample."""
        return float(np.minimum(self.tokens, self.max_length).mean()) if len(self.tokens) else 0.0

    @property
    def seconds(self) -> float:
        """Estimated time of it all: on a CPU reading and tokenizing take cores from the encoder, beside a GPU they run along."""
        if not self.encode:
            return 0.0
        parts = self.encode * self.mean_tokens / self.tokens_per_second, self.encode * self.prepare_seconds
        return (max(parts) if self.on_gpu else sum(parts)) / self.ranks

    def counts(self) -> str:
        """One line: what is to do."""
        parts = [f"{self.encode:,} of {self.documents:,} documents to encode"]
        parts += [f"{self.done:,} committed before"] if self.done else []
        parts += [f"{self.lent:,} lent by finished caches"] if self.lent else []
        parts += [f"{self.copies:,} with the text of another"] if self.copies else []
        return ", ".join(parts)

    def short(self) -> list[str]:
        """Return the plan as log lines."""
        lines = [f"plan: {self.counts()}"]
        if len(self.tokens):
            at = ", ".join(f"{p} % {t}" for p, t in zip(PERCENTILES, self.percentiles(), strict=True) if p in (5, 50, 95))
            over = f"{self.truncated_share():.1%} over {self.max_length}"
            lines.append(f"plan: tokens per document: {at}; {over} (sample of {len(self.tokens)})")
        if self.encode:
            rate = f"{self.rate:,.0f} tokens/s in a trial, warm-up {self.warm_up:.1f} s"
            who = f" by {self.ranks} ranks" if self.ranks > 1 else ""
            many = f" in {len(self.caches)} caches" if len(self.caches) > 1 else ""
            lines.append(
                f"plan: about {duration(self.seconds)} to encode{who} ({rate}), {size(self.cache_bytes)} on disk{many}"
            )
        return lines

    @property
    def rate(self) -> float:
        """Tokens a second from reading to vectors."""
        return self.encode * self.mean_tokens / self.seconds if self.encode else 0.0

    def percentiles(self) -> list[int]:
        return [int(value) for value in np.percentile(self.tokens, PERCENTILES, method="nearest")]

    def truncated_share(self) -> float:
        return float((self.tokens > self.max_length).mean())

    def long(self) -> list[str]:
        """Return the plan as a page for standard output."""
        rows = [
            ("documents", f"{self.documents:,} in {self.classes} classes"),
            ("to encode", f"{self.encode:,}"),
            ("committed before", f"{self.done:,}"),
            ("lent by caches", f"{self.lent:,}"),
            ("duplicate texts", f"{self.copies:,}"),
            *(("cache file", f"{cache}, {size(self.cache_bytes / len(self.caches))}") for cache in self.caches),
            ("free on that disk", size(self.free_bytes)),
            ("estimated time", f"{duration(self.seconds)}, at {self.rate:,.0f} tokens/s" if self.encode else "0:00"),
        ]
        if len(self.tokens):
            values = zip(PERCENTILES, self.percentiles(), strict=True)
            rows.append(("tokens per document", ", ".join(f"{p} %: {t}" for p, t in values)))
            rows.append(("truncated", f"{self.truncated_share():.1%} at --max-length {self.max_length}"))
            rows.append(("sample", f"{len(self.tokens)} documents"))
        wide = max(len(name) for name, _ in rows)
        return [f"{name:<{wide}}  {value}" for name, value in rows] + self.histogram()

    def histogram(self) -> list[str]:
        """Return bars of the sample's lengths in ten equal steps, and what lies beyond max_length in one."""
        if not len(self.tokens):
            return []
        top = int(min(self.tokens.max(), self.max_length))
        edges = np.unique(np.linspace(0, top, 11).round().astype(int))
        counts, _ = np.histogram(self.tokens[self.tokens <= top], edges + 0.5)
        names = [f"{low + 1}-{high}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
        if beyond := int((self.tokens > top).sum()):
            counts, names = [*counts, beyond], [*names, f"over {top}"]
        most = max(counts)
        return ["", "tokens    documents of the sample"] + [
            f"{name:>9} {'█' * round(BAR * count / most):<{BAR}} {count}" for name, count in zip(names, counts, strict=True)
        ]


def make_plan(corpus, identity, todo, tokens, caches: list[Path]) -> Plan:
    """Tokenize a sample of what is to be encoded; `tokens` is a Tokens. The speed is filled in by time_batches.

    identity: of any of the caches, which differ in their vectors alone."""
    rows = np.flatnonzero(todo.encode)
    sample = rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLE).astype(int))] if len(rows) else rows
    texts = corpus.texts(sample)
    lengths = tokens.full_lengths(texts) if texts else np.zeros(0, np.int64)
    characters = int(corpus.characters[sample].sum())
    bytes_each = identity.hidden_size * np.dtype(identity.store_dtype).itemsize + 50
    one_cache = len(todo.done) * bytes_each + sum(map(len, corpus.sources))
    return Plan(
        documents=len(todo.done), classes=len(identity.label_names), done=int(todo.done.sum()), lent=int(todo.lent.sum()),
        copies=todo.copies, encode=len(rows), tokens=lengths, max_length=tokens.max_length,
        tokens_per_character=float(lengths.sum()) / characters if characters else 1.0,
        texts=texts, caches=caches, cache_bytes=len(caches) * one_cache, free_bytes=free_space(caches[0].parent),
    )  # fmt: skip


def time_batches(plan: Plan, corpus, todo, encoder) -> None:
    """Time a sample's reading and tokenizing, the first batch (the warm-up), and a few batches of neighbours in length."""
    rows = np.flatnonzero(todo.encode)
    if not len(rows):
        return
    began = time.perf_counter()
    near = corpus.texts(rows[:SAMPLE])  # neighbours, as they will be read: here and there Parquet takes a hundred times as long
    read = (time.perf_counter() - began) / len(near)
    began = time.perf_counter()
    ids, _ = encoder.tokens(plan.texts or near)
    plan.prepare_seconds, plan.on_gpu = read + (time.perf_counter() - began) / len(ids), encoder.lanes.on_gpu
    middle = np.argsort(np.abs(np.array([len(one) for one in ids]) - plan.mean_tokens), kind="stable")
    began = time.perf_counter()
    encoder.lanes.encode([ids[middle[0]]])
    plan.warm_up = time.perf_counter() - began
    alone, *others = (encoder.lanes.submit([ids[middle[0]]] * many).wait()[:, 0] for many in (1, 3, 17))
    plan.same_bits = all(alone.tobytes() == other.tobytes() for other in others)
    if plan.on_gpu:  # three full batches, and the second time: kernels are loaded at their first use
        enough = 3 * encoder.lanes.tokens_per_batch // max(1, len(ids[middle[0]]))
        part = [ids[i] for i in np.resize(middle, max(enough, len(ids)))]
        for _ in range(2):
            began = time.perf_counter()
            encoder.lanes.encode(part)
            seconds = time.perf_counter() - began
        plan.tokens_per_second = sum(map(len, part)) / max(seconds, 1e-9)
        return
    many = 2
    while True:
        many = min(many, len(ids))
        part = [ids[i] for i in middle[:many]]
        began = time.perf_counter()
        encoder.lanes.encode(part)
        seconds = time.perf_counter() - began
        if many == len(ids) or seconds > TIMED_SECONDS / 2:
            break
        many *= 2
    plan.tokens_per_second = sum(map(len, part)) / max(seconds, 1e-9)


def expected_tokens(plan: Plan, characters: np.ndarray) -> np.ndarray:
    """A guess of each document's tokens (N,) after truncation, from its characters."""
    return np.clip(characters * plan.tokens_per_character, 3, plan.max_length)


def size(count: float) -> str:
    """1.3 GB, 20.5 MB or 12.0 kB."""
    for unit, one in (("GB", 1e9), ("MB", 1e6)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
