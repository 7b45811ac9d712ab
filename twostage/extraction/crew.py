"""Many processes encode one corpus: rank 0 deals, writes and speaks, the others read and encode what they are dealt.

Rank 0                                      another rank
start: corpus (no texts), settings        -> opens its own corpus and model, checks that they are the same
                                          <- ready
encode: number, rows                      -> reads the texts, checks their digests, encodes
                                          <- encoded: number, vectors, counts, cut, seconds     (or at any time  error: text)
stop: failed or not                       -> leaves
"""

import json
import queue
import signal
import socket
import threading
import time
from contextlib import suppress

import numpy as np

from twostage import ranks
from twostage.corpus.again import packed, unpacked
from twostage.encoder.checkpoint import digest_files
from twostage.encoder.encoder import Encoder
from twostage.encoder.settings import view_of
from twostage.errors import BadInput
from twostage.extraction.dealing import AHEAD, Deal, Encoded, Here
from twostage.extraction.links import Link, Links, as_bytes, as_text

ASKED_SECONDS = 0.5  # in which signals reach all ranks, where they reach all
LEAVE_SECONDS = 5.0  # in which the others have left after rank 0 has nothing more for them


class Crew:
    """Rank 0's side, as a context manager around all of its work. Where it is alone it does nothing."""

    def __init__(self):
        self.links, self.together, self.remotes = [], None, []
        self.caches: list[str] = []  # the paths of the finished ones, for the others to know

    def __enter__(self) -> "Crew":
        if ranks.size() > 1:
            self.together = Links()
            self.links = self.together.__enter__()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if self.together is None:
            return
        for remote in self.remotes:
            remote.ended = True
        for link in self.links:
            with suppress(BadInput):
                link.send("stop", failed=np.array([error is not None]), caches=as_bytes(json.dumps(self.caches)))
        for remote in self.remotes:
            remote.listener.join(LEAVE_SECONDS)
        self.together.__exit__()

    def prepare(self, corpus, settings: list[dict], device: str, tokens_per_batch: int | None) -> None:
        """Let the others load the model while rank 0 plans. settings: of each view; device: as asked for on the command line."""
        if self.links:
            read, arrays = packed(corpus)
            about = {"settings": settings, "device": device, "tokens_per_batch": tokens_per_batch, "read": read}
            self.remotes = [Remote(link) for link in self.links]
            for link in self.links:
                link.send("start", about=as_bytes(json.dumps(about)), **arrays)

    def lost(self, seconds: float = ASKED_SECONDS) -> BadInput | None:
        """What went wrong with another rank, should that be known within so many seconds."""
        end = time.monotonic() + seconds
        while self.remotes:
            errors = [remote.error for remote in self.remotes if remote.error]
            if errors or time.monotonic() > end:
                return errors[0] if errors else None
            time.sleep(0.02)
        return None

    def take_from(self, deal: Deal, advance) -> None:
        """From here on the others encode what is dealt."""
        for remote in self.remotes:
            remote.begin(deal, advance)


class Remote:
    """Another rank, as one who encodes: takes parts from a deal, sends them, and gives back what comes."""

    def __init__(self, link: Link):
        self.link, self.parts, self.room = link, {}, threading.Semaphore(AHEAD + 1)  # one read, while two are encoded
        self.deal: Deal | None = None
        self.error: BadInput | None = None
        self.ended, self.ready = False, threading.Event()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def begin(self, deal: Deal, advance) -> None:
        self.deal, self.advance = deal, advance
        deal.workers += 1
        if self.error:
            deal.end(self.error)
        threading.Thread(target=self._feed, daemon=True).start()

    def _feed(self) -> None:
        number = 0
        self.ready.wait()  # the others go on meanwhile
        with suppress(BadInput):  # the listener hears of it too
            while self.room.acquire() and (part := self.deal.take()) is not None:
                self.parts[number] = part
                self.link.send("encode", number=np.array([number]), rows=part.rows)
                number += 1

    def _listen(self) -> None:
        try:
            while True:
                word, arrays = self.link.receive()
                if word == "hello":
                    self.link.host = as_text(arrays["host"])
                elif word == "ready":
                    self.ready.set()
                elif word == "bye":
                    return
                elif word == "asked to end":
                    time.sleep(2 * ASKED_SECONDS)
                    raise BadInput(
                        f"{ranks.called(self.link.other, self.link.host)} was asked to end: run the same command again"
                    )
                elif word == "error":
                    raise BadInput(f"{ranks.called(self.link.other, self.link.host)}: {as_text(arrays['text'])}")
                else:
                    self._give(arrays)
        except BadInput as error:
            self.error = error
            if self.deal and not self.ended:
                self.deal.end(error)

    def _give(self, arrays) -> None:
        part = self.parts.pop(int(arrays["number"][0]))
        read, tokenize, encode = arrays["seconds"].tolist()
        encoded = Encoded(arrays["vectors"], arrays["counts"], arrays["cut"], read, tokenize, encode)
        self.deal.give(part, encoded)
        self.advance(len(part.rows))
        self.room.release()


def serve(own) -> list[str]:
    """Another rank's side: encode what rank 0 deals until all is done -> the caches' paths. BadInput where rank 0 failed.

    own() gives this machine's corpus, as a path or, where it lies in memory, a Corpus, and the folder of its model."""
    (link,) = Links().__enter__()
    for sign in (signal.SIGTERM, signal.SIGINT):  # as a rule rank 0 is asked to end too, and then ends this one
        signal.signal(sign, lambda *_: threading.Thread(target=_pass_on, args=(link,), daemon=True).start())
    worker = None
    try:
        link.send("hello", host=as_bytes(socket.gethostname()))
        while True:
            word, arrays = link.receive()
            if word == "start":
                worker = Worker(link, own, arrays)
            elif word == "encode":
                worker.encode(int(arrays["number"][0]), arrays["rows"])
            elif word == "stop" and not arrays["failed"][0]:
                link.send("bye")
                return json.loads(as_text(arrays["caches"]))
            # A failure: rank 0 is to end first, since it says why. Its end is a BadInput here.
    finally:
        if worker:
            worker.close()


class Worker:
    """What another rank encodes with; loads in a thread of its own, so that rank 0 is heard meanwhile."""

    def __init__(self, link: Link, own, arrays):
        self.link, self.deal, self.here = link, Deal(), None
        self.outbox: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._send, daemon=True).start()
        threading.Thread(target=self._load, args=(own, arrays), daemon=True).start()

    def encode(self, number: int, rows: np.ndarray) -> None:
        self.deal.encode(rows).add_done_callback(lambda encoded: self.outbox.put((number, encoded)))

    def close(self) -> None:
        self.deal.end(BadInput("stopped"))
        if self.here:
            self.here.close()

    def _load(self, own, arrays) -> None:
        try:
            about = json.loads(as_text(arrays["about"]))
            settings, (source, folder) = about["settings"], own()
            check_same_model(folder, settings[0])
            corpus = unpacked(source, about["read"], arrays)
            encoder = load_encoder(folder, settings, about["device"], about["tokens_per_batch"])
            check_same_model(folder, settings[0])  # the weights just loaded
            self.here = Here(corpus, encoder, self.deal)
            self.link.send("ready")
        except Exception as error:
            self.outbox.put((-1, error))

    def _send(self) -> None:
        with suppress(BadInput):  # rank 0 is gone: the main thread hears of it
            while True:
                number, encoded = self.outbox.get()
                error = encoded if isinstance(encoded, Exception) else encoded.exception()
                if error is not None:
                    text = str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
                    self.link.send("error", text=as_bytes(" ".join(text.split())))
                    return
                found = encoded.result()
                self.link.send(
                    "encoded", number=np.array([number]), vectors=found.vectors, counts=found.counts, cut=found.cut,
                    seconds=np.array([found.read, found.tokenize, found.encode]),
                )  # fmt: skip


def _pass_on(link: Link) -> None:
    with suppress(BadInput):  # rank 0 is gone already
        link.send("asked to end")


def load_encoder(folder, settings: list[dict], device: str, tokens_per_batch: int | None) -> Encoder:
    """The encoder that these settings of caches' identities mean, which differ in their views alone."""
    return Encoder(
        folder, max_length=settings[0]["max_length"], truncation=settings[0]["truncation"], pooling=[*map(view_of, settings)],
        prefix=settings[0].get("prefix", ""), device=device, dtype=settings[0]["compute_dtype"],
        tokens_per_batch=tokens_per_batch,
    )  # fmt: skip


def check_same_model(folder, settings: dict) -> None:
    """BadInput where this machine's files are not those that rank 0 has found."""
    for name, digest in digest_files(folder).items():
        if digest != settings[name]:
            raise BadInput(f"{folder}: not rank 0's {name}: the same model must be on every machine")
