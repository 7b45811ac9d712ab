"""One extraction: what is to do, the plan, the encoding, the checks before the cache is published, the log of it all."""

import contextlib
import os
import sys
import time
from pathlib import Path

import numpy as np

from twostage import ranks
from twostage.cache.reader import write_facts
from twostage.cache.reuse import find_vectors, nearest_cache
from twostage.cache.writer import CacheWriter
from twostage.corpus.folders import bytes_path
from twostage.encoder.checkpoint import digest_files
from twostage.encoder.settings import view_of
from twostage.errors import BadInput
from twostage.extraction.certificate import certify
from twostage.extraction.crew import Crew, load_encoder
from twostage.extraction.dealing import Deal, Here
from twostage.extraction.pipeline import READ_ROWS, CacheView, Pipeline, Times
from twostage.extraction.plan import expected_tokens, make_plan, time_batches
from twostage.extraction.windows import Windows, in_one_pass, twins, what_to_do
from twostage.progress import duration, say
from twostage.versions import versions

ELSEWISE = dict.fromkeys(("float16", "bfloat16"), "give --dtype float32") | {
    "float32": "this is a fault of the program or the machine: please report it"
}
CLOCK_SLACK = 2.0  # seconds by which a file system's clock may be behind ours


class Extraction:
    """A corpus on its way into caches, one for each view of its documents. tokens: a Tokens of the model's folder;
    device: cpu or cuda; since: the time (seconds since the epoch) before the corpus was read."""

    def __init__(
        self, folder: Path, tokens, corpus, writers: list[CacheWriter], device: str, tokens_per_batch: int | None, since: float
    ):
        self.folder, self.tokens, self.corpus, self.writers = folder, tokens, corpus, writers
        self.device, self.tokens_per_batch, self.since = device, tokens_per_batch, since
        self.views: list[CacheView] = []  # of the caches that are not finished
        self.times, self.encoder, self.crew, self.plan = Times(), None, Crew(), None

    def plan_only(self) -> list[str]:
        """Return the plan as lines, from a sample and a few timed batches; nothing is written."""
        self._look_ahead(self.writers, [writer.look() for writer in self.writers])
        self._close()
        return self.plan.long()

    def say_what_differs(self) -> None:
        """Where the first cache is not begun yet but there are others, say how the nearest differs."""
        first = self.writers[0]
        nearest = None if first.path.exists() or first.partial.exists() else nearest_cache(first.path.parent, first.identity)
        if nearest:
            say(f"a new cache is needed: {nearest[0].name} differs ({'; '.join(nearest[1])})")

    def fill(self, writers: list[CacheWriter]) -> None:
        """Encode, copy and commit every document that one of `writers` does not hold yet, and say where the time went."""
        try:
            self._look_ahead(writers, [writer.done for writer in writers])
            for line in self.plan.short():
                say(line)
            guess = expected_tokens(self.plan, self.corpus.characters)
            self.times = self._encode_all(Windows(self.todo, guess, self.plan.rate, len(self.views)))
        except KeyboardInterrupt:
            if lost := self.crew.lost():  # torchrun ends us because of it: say that
                raise lost from None
            done = np.all([writer.done for writer in writers], axis=0)
            say(
                f"interrupted: {done.sum():,} of {len(done):,} documents are kept; run the same command again to continue from there"
            )
            raise
        finally:
            self._close()
        for line in self.summary():
            say(line)

    def _encode_all(self, windows: Windows) -> Times:
        deal = Deal()
        pipeline = Pipeline(self.views, self.todo, windows, deal)
        here = Here(self.corpus, self.encoder, deal, pipeline.advance) if self.encoder else None
        self.crew.take_from(deal, pipeline.advance)
        try:
            return pipeline.run()
        except BaseException as error:
            deal.end(error)
            raise
        finally:
            deal.end()
            if here:
                here.close()

    def _look_ahead(self, writers: list[CacheWriter], each_done: list[np.ndarray]) -> None:
        """Find what is to do and load the model only if there is something to encode."""
        twin, settings = twins(self.corpus.digest), []
        for writer, done in zip(writers, each_done, strict=True):
            lent = find_vectors(writer.path.parent, writer.identity)
            todo = what_to_do(twin, done, lent.have)
            self.views.append(CacheView(writer, lent, todo, len(settings) if todo.encode.any() else None))
            settings += [writer.identity.encoder] if todo.encode.any() else []
        self.todo = in_one_pass([view.todo for view in self.views])
        paths = [writer.path for writer in writers]
        self.plan = make_plan(self.corpus, writers[0].identity, self.todo, self.tokens, paths)
        if self.plan.encode:
            self.crew.prepare(self.corpus, settings, self.device.partition(":")[0], self.tokens_per_batch)
            self.plan.ranks = ranks.size()
            self.encoder = load_encoder(self.folder, settings, self.device, self.tokens_per_batch)
            self._check_model()  # the weights just loaded are those of the identity
            time_batches(self.plan, self.corpus, self.todo, self.encoder)

    def _close(self) -> None:
        if self.encoder:
            self.encoder.close()

    def check_unchanged(self) -> None:
        """BadInput where the model or a document is no longer what the identity was made of."""
        self._check_model()
        rows = touched_since(self.corpus, self.since)
        for at in range(0, len(rows), READ_ROWS):
            self.corpus.texts(rows[at : at + READ_ROWS])

    def _check_model(self) -> None:
        try:
            now = digest_files(self.folder)
        except BadInput as error:
            raise BadInput(f"the model changed while it was in use: {error}") from None
        for name, digest in now.items():
            if digest != self.writers[0].identity.encoder[name]:
                raise BadInput(
                    f"{self.folder}: its {name} changed while it was in use; run the command again for a cache of the new "
                    "model, or put the old file back to finish this one"
                )

    def publish(self) -> None:
        """Compare a sample with plain BertModel and say the errors; then let the caches that were filled appear."""
        certificates = self._certificates()
        for view in self.views:
            view.writer.publish()
            self.write_facts(view.writer, certificates.get(view.writer.path), view)

    def _certificates(self) -> dict[Path, dict]:
        """By cache; none where every vector was copied. BadInput where a cache is beyond its bound, and those are removed."""
        writers = [view.writer for view in self.views if view.place is not None or view.todo.done.any()]
        settings = [writer.identity.encoder for writer in writers]
        stored = [lambda rows, writer=writer: writer.rows(rows)[0] for writer in writers]
        found = certify(self.folder, self.corpus, settings, self.device, stored, self.times.total) if writers else []
        beyond = None
        for writer, one in zip(writers, found, strict=True):
            dtype, (pooling, layer) = writer.identity.encoder["compute_dtype"], view_of(writer.identity.encoder)
            name = f" of {pooling}, layer {layer}" if len(self.writers) > 1 else ""
            say(
                f"certificate{name}: {one['documents']} documents encoded again, one at a time in float32: largest error "
                f"{one['largest_absolute_error']:.2g} absolute, {one['largest_cosine_error']:.2g} cosine "
                f"(stored as {writer.identity.store_dtype}, computed in {dtype})"
            )
            if not one["largest_relative_error"] <= one["bound"]:
                writer.discard()
                beyond = beyond or BadInput(
                    f"certificate{name}: vectors differ from plain BertModel by up to {one['largest_relative_error']:.2g} of their length, "
                    f"more than {one['bound']:g} for {dtype}: no cache was written; {ELSEWISE[dtype]}"
                )
            if self.encoder:
                one["same_bits_alone_and_in_a_batch"] = self.plan.same_bits
        if beyond:
            raise beyond
        if self.encoder and not self.plan.same_bits:
            where = "processor" if self.device == "cpu" else "GPU"
            say(
                f"certificate: on this {where} a document's last bits depend on the batch; vectors agree within the errors above"
            )
        return {writer.path: one for writer, one in zip(writers, found, strict=True)}

    def summary(self) -> list[str]:
        """Return log lines: where the time went, and planned beside actual."""
        times = self.times
        if not times.documents:
            return [f"encoded nothing, copied {self.plan.lent + self.plan.copies:,} vectors in {times.total:.1f} s"]
        parts = ("read", "tokenize", "encode", "write", "idle")
        spent = ", ".join(f"{name} {getattr(times, name):.1f}" for name in parts)
        return [
            f"time: {times.total:.1f} s in all; seconds by part, side by side: {spent}",
            f"speed: {times.documents / times.total:,.1f} documents/s, {times.tokens / times.total:,.0f} tokens/s",
            f"planned {duration(self.plan.seconds)} for {self.plan.mean_tokens:,.0f} tokens per document; "
            f"it took {duration(times.total)} for {times.tokens / times.documents:,.0f}",
        ]

    def write_facts(self, writer: CacheWriter, certificate: dict | None = None, view: CacheView | None = None) -> None:
        """Keep beside the cache what is true of this run alone; without a view it was there already, and only this file was lost."""
        times, lanes = self.times, self.encoder.lanes if self.encoder else None
        facts = {
            "cache": str(writer.path.absolute()),
            "corpus": self.corpus.told["path"],
            "columns": self.corpus.told.get("columns", {}),
            "corpus_name": self.corpus.name,
            "encoding": self.corpus.decoder.encoding,
            "model": str(self.folder.absolute()),
            "command": sys.argv,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": versions(),
            "device": device_name(self.device),
            "ranks": ranks.size(),
            "lanes": lanes.lanes if lanes else 0,
            "tokens_per_batch": lanes.tokens_per_batch if lanes else 0,
            "attention": lanes.attention if lanes else None,
            "certificate": certificate,
        }
        if view:
            todo = view.todo
            facts["documents"] = {
                "all": self.plan.documents, "encoded": int(todo.encode.sum()), "committed_before": int(todo.done.sum()),
                "lent_by_caches": int(todo.lent.sum()), "copied_from_same_text": todo.copies,
            }  # fmt: skip
            facts["caches_of_the_pass"] = [one.writer.path.name for one in self.views]
            facts["seconds"] = {
                name: round(getattr(times, name), 3) for name in ("total", "read", "tokenize", "encode", "write", "idle")
            } | {"warm_up": round(self.plan.warm_up, 3), "planned": round(self.plan.seconds, 3)}
            facts["tokens"] = times.tokens
        with contextlib.suppress(OSError):  # advisory: the cache is complete without it
            write_facts(writer.path, facts)


def touched_since(corpus, since: float) -> np.ndarray:
    """Rows of the documents whose files were touched in any way at or after `since`, or are gone."""

    def touched(file: str) -> bool:
        try:
            return os.stat(bytes_path(corpus.root, file)).st_ctime >= since - CLOCK_SLACK
        except OSError:
            return True

    if corpus.root is None:  # tables that the caller holds
        return np.zeros(0, np.int64)
    if corpus.places is None:  # a tree: a file a document
        return np.flatnonzero([touched(source) for source in corpus.sources])
    files = [source.rpartition(":")[0] for source in corpus.sources]
    stale = {file for file in set(files) if touched(file)}
    return np.flatnonzero([file in stale for file in files])


def device_name(device: str) -> str:
    """The processor's or the GPU's own name."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return device
