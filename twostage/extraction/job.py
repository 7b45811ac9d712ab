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
from twostage.errors import BadInput
from twostage.extraction.certificate import certify
from twostage.extraction.crew import Crew, load_encoder
from twostage.extraction.dealing import Deal, Here
from twostage.extraction.pipeline import READ_ROWS, Pipeline, Times
from twostage.extraction.plan import expected_tokens, make_plan, time_batches
from twostage.extraction.windows import Windows, what_to_do
from twostage.progress import duration, say
from twostage.versions import versions

ELSEWISE = dict.fromkeys(("float16", "bfloat16"), "give --dtype float32") | {
    "float32": "this is a fault of the program or the machine: please report it"
}
CLOCK_SLACK = 2.0  # seconds by which a file system's clock may be behind ours


class Extraction:
    """A corpus on its way into the cache at `path`. tokens: a Tokens of the model's folder; device: cpu or cuda;
    since: the time (seconds since the epoch) before the corpus was read."""

    def __init__(
        self, folder: Path, tokens, corpus, identity, path: Path, device: str, tokens_per_batch: int | None, since: float
    ):
        self.folder, self.tokens, self.corpus, self.identity, self.path = folder, tokens, corpus, identity, path
        self.device, self.tokens_per_batch, self.since = device, tokens_per_batch, since
        self.times, self.encoder, self.resumed, self.crew, self.plan = Times(), None, False, Crew(), None

    def plan_only(self) -> list[str]:
        """Return the plan as lines, from a sample and a few timed batches; nothing is written."""
        done = CacheWriter(self.path, self.identity).look()
        lent = find_vectors(self.path.parent, self.identity)
        self._look_ahead(done, lent.have)
        self._close()
        return self.plan.long()

    def say_what_differs(self) -> None:
        """Where this cache is not begun yet but there are others, say how the nearest differs."""
        begun = self.path.exists() or self.path.with_name(f"{self.path.name}.partial").exists()
        nearest = None if begun else nearest_cache(self.path.parent, self.identity)
        if nearest:
            say(f"a new cache is needed: {nearest[0].name} differs ({'; '.join(nearest[1])})")

    def fill(self, writer) -> None:
        """Encode, copy and commit every document that `writer` does not hold yet, and say where the time went."""
        done = writer.done
        self.resumed = bool(done.any())
        lent = find_vectors(self.path.parent, self.identity)
        try:
            self._look_ahead(done, lent.have)
            for line in self.plan.short():
                say(line)
            guess = expected_tokens(self.plan, self.corpus.characters)
            self.times = self._encode_all(writer, lent, Windows(self.todo, guess, self.plan.rate))
        except KeyboardInterrupt:
            if lost := self.crew.lost():  # torchrun ends us because of it: say that
                raise lost from None
            kept = int(writer.done.sum())
            say(f"interrupted: {kept:,} of {len(done):,} documents are kept; run the same command again to go on from there")
            raise
        finally:
            self._close()
        for line in self.summary():
            say(line)

    def _encode_all(self, writer, lent, windows: Windows) -> Times:
        deal = Deal()
        pipeline = Pipeline(writer, lent, self.todo, windows, deal)
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

    def _look_ahead(self, done: np.ndarray, lent: np.ndarray) -> None:
        """Find what is to do and load the model only if there is something to encode."""
        self.todo = what_to_do(self.corpus.digest, done, lent)
        self.plan = make_plan(self.corpus, self.identity, self.todo, self.tokens, self.path)
        if self.plan.encode:
            settings = self.identity.encoder
            self.crew.prepare(self.corpus, self.folder, settings, self.device.partition(":")[0], self.tokens_per_batch)
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
        for name in ("weights", "config", "tokenizer"):
            if getattr(now, name) != self.identity.encoder[name]:
                raise BadInput(
                    f"{self.folder}: its {name} changed while it was in use; run the command again for a cache of the new "
                    "model, or put the old file back to finish this one"
                )

    def certify(self, writer) -> dict | None:
        """Compare a sample with plain BertModel and say the errors; None where every vector was copied."""
        if not self.encoder and not self.resumed:
            return None
        settings = self.identity.encoder
        found = certify(self.folder, self.corpus, settings, self.device, lambda rows: writer.rows(rows)[0], self.times.total)
        say(
            f"certificate: {found['documents']} documents again one at a time in float32: largest error "
            f"{found['largest_absolute_error']:.2g} absolute, {found['largest_cosine_error']:.2g} cosine "
            f"(stored as {self.identity.store_dtype}, computed in {settings['compute_dtype']})"
        )
        if not found["largest_relative_error"] <= found["bound"]:
            writer.discard()
            raise BadInput(
                f"certificate: vectors are up to {found['largest_relative_error']:.2g} of their length off plain BertModel, more than "
                f"{found['bound']:g} for {settings['compute_dtype']}: no cache was written; {ELSEWISE[settings['compute_dtype']]}"
            )
        if self.encoder:
            found["same_bits_alone_and_in_a_batch"] = self.plan.same_bits
        if self.encoder and not self.plan.same_bits:
            where = "processor" if self.device == "cpu" else "GPU"
            say(
                f"certificate: on this {where} a document's last bits depend on the batch; vectors agree within the errors above"
            )
        return found

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
            f"planned {duration(self.plan.seconds)} for {self.plan.mean_tokens:,.0f} tokens a document; "
            f"it took {duration(times.total)} for {times.tokens / times.documents:,.0f}",
        ]

    def write_facts(self, certificate: dict | None) -> None:
        """Keep beside the cache what is true of this run alone."""
        times, lanes = self.times, self.encoder.lanes if self.encoder else None
        facts = {
            "cache": str(self.path.absolute()),
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
        if self.plan:  # else the cache was there already, and only this file was lost
            facts["documents"] = {
                "all": self.plan.documents, "encoded": times.documents, "committed_before": self.plan.done,
                "lent_by_caches": self.plan.lent, "copied_from_same_text": self.plan.copies,
            }  # fmt: skip
            facts["seconds"] = {
                name: round(getattr(times, name), 3) for name in ("total", "read", "tokenize", "encode", "write", "idle")
            } | {"warm_up": round(self.plan.warm_up, 3), "planned": round(self.plan.seconds, 3)}
            facts["tokens"] = times.tokens
        with contextlib.suppress(OSError):  # advisory: the cache is complete without it
            write_facts(self.path, facts)


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
