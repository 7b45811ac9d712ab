"""Batches through the encoder: on a CPU one lane a core, on a GPU one stream that never waits for the host.

A CPU lane computes a whole batch on one thread. Lanes need no barrier after each product, so they lose less than two
threads on one product do, and no result depends on how many there are.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from twostage.encoder.attention import EqualSpan, GroupedSpan, PackedSpan, PaddedSpan, has_varlen
from twostage.encoder.batching import equal_length_groups, packed_batches, sorted_batches, split_evenly
from twostage.encoder.forward import FoldedBert
from twostage.errors import BadInput
from twostage.memory import is_out_of_memory
from twostage.progress import say

CPU_TOKENS = 1024  # a batch: its activations stay near the caches
GPU_TOKENS = 65536  # a batch: large enough that starting kernels costs nothing
AHEAD = 2  # batches that a GPU has been given but not finished


class Job:
    """Documents on their way through the encoder. `vectors` (V, N, D) float32, of V views, is whole when wait() returns."""

    def __init__(self, views: int, documents: int, width: int):
        self.vectors = np.empty((views, documents, width), np.float32)
        self.futures: list[Future] = []

    def wait(self, on_batch: Callable[[int], None] = lambda documents: None) -> np.ndarray:
        """Wait for all batches, telling `on_batch` how many documents each had; raises what a batch raised."""
        for future in self.futures:  # as_completed would wait for ever for one that close() has cancelled
            on_batch(future.result())
        return self.vectors


class Lanes:
    """Encodes token ids with a FoldedBert. Close it, or use it as a context manager."""

    def __init__(self, bert: FoldedBert, tokens_per_batch: int | None = None):
        self.bert, self.threads = bert, torch.get_num_threads()
        self.on_gpu = bert.on_gpu
        self.lanes = 1 if self.on_gpu else self.threads
        self.tokens_per_batch = tokens_per_batch or (GPU_TOKENS if self.on_gpu else CPU_TOKENS)
        self.varlen = has_varlen(bert.device, bert.dtype, bert.heads, bert.width)
        self.attention = "variable-length" if self.varlen else "padded" if self.on_gpu else "by length"
        if self.on_gpu and not self.varlen and bert.dtype != torch.float32:
            say("no variable-length attention here: documents are padded inside attention, which is slower on mixed lengths")
        self.pool = ThreadPoolExecutor(self.lanes, "lane")
        self.stopped = threading.Event()
        self.busy_seconds = 0.0  # of all lanes together
        self.tally = threading.Lock()
        self.flight: deque = deque()  # GPU batches not yet collected

    def __enter__(self) -> "Lanes":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Drop what has not begun, wait for what has, and give torch its threads back."""
        self.stopped.set()
        self.pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(self.threads)

    def encode(self, ids: list[np.ndarray]) -> np.ndarray:
        """Vectors (N, D) float32 of N documents' token ids: of the first view, where there are several."""
        try:
            return self.submit(ids).wait()[0]
        finally:
            torch.set_num_threads(self.threads)

    def submit(self, ids: list[np.ndarray]) -> Job:
        """Queue N documents; returns at once."""
        job = Job(len(self.bert.views), len(ids), self.bert.width)
        lengths = np.array([len(one) for one in ids], np.int64)
        if self.on_gpu:
            run, batches = self._run_on_gpu, sorted_batches(lengths, self.tokens_per_batch)
        else:
            run, batches = self._run_on_cpu, packed_batches(lengths, self.tokens_per_batch, self.lanes, self.bert.step)
        job.futures += [self.pool.submit(run, job, ids, rows) for rows in batches]
        if self.on_gpu:
            job.futures.append(self.pool.submit(self._collect, 0))
        return job

    def _run_on_cpu(self, job: Job, ids: list[np.ndarray], rows: np.ndarray) -> int:
        if self.stopped.is_set():
            return 0
        torch.set_num_threads(1)
        start = time.perf_counter()
        for part in split_evenly(rows, self._most(ids, rows)):
            self._with_less_memory(self._encode_groups, job, ids, part)
        self._add_busy(start)
        return len(rows)

    def _encode_groups(self, job: Job, ids: list[np.ndarray], rows: np.ndarray) -> None:
        flat = torch.from_numpy(np.concatenate([ids[row] for row in rows]))
        span = GroupedSpan(equal_length_groups([len(ids[row]) for row in rows]))
        job.vectors[:, rows] = self.bert(flat, span).numpy()

    def _run_on_gpu(self, job: Job, ids: list[np.ndarray], rows: np.ndarray) -> int:
        if self.stopped.is_set():
            return 0
        with torch.cuda.device(self.bert.device):
            for part in split_evenly(rows, self._most(ids, rows)):
                self._with_less_memory(self._launch, job, ids, part)
                self._collect(AHEAD)
        return len(rows)

    def _launch(self, job: Job, ids: list[np.ndarray], rows: np.ndarray) -> None:
        device, longest = self.bert.device, max(len(ids[row]) for row in rows)
        lengths = torch.tensor([len(ids[row]) for row in rows])
        flat = torch.from_numpy(np.concatenate([ids[row] for row in rows])).pin_memory()
        began, event = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        if self.varlen:
            span = PackedSpan(lengths, longest, device)
        elif int(lengths.min()) == longest:
            span = EqualSpan(len(rows), longest, device)
        else:
            span = PaddedSpan(lengths, longest, device)
        vectors = self.bert(flat.to(device, non_blocking=True), span)
        landed = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        landed.copy_(vectors, non_blocking=True)
        event.record()
        self.flight.append((job, rows, landed, began, event, flat))

    def _collect(self, leave: int) -> int:
        """Put finished GPU batches where they belong until `leave` are on their way."""
        while len(self.flight) > leave:
            job, rows, landed, began, event, _ = self.flight.popleft()
            event.synchronize()
            with self.tally:  # the GPU's own time: launching is none of it
                self.busy_seconds += began.elapsed_time(event) / 1000
            job.vectors[:, rows] = landed.numpy()
        return 0

    def _with_less_memory(self, encode, job: Job, ids: list[np.ndarray], rows: np.ndarray) -> None:
        """Encode, and where memory runs out halve the batch, this one and all later ones, and go on."""
        try:
            encode(job, ids, rows)
            return
        except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            length = max(len(ids[row]) for row in rows)
            if len(rows) == 1:
                raise BadInput(
                    f"memory ran out on a single document of {length} tokens; give a smaller --max-length or --device cpu"
                ) from None
        if self.on_gpu:
            self._collect(0)
            torch.cuda.empty_cache()
        with self.tally:
            half = max(length, sum(len(ids[row]) for row in rows) // 2)
            if half < self.tokens_per_batch:
                self.tokens_per_batch = half
                say(f"memory ran out: batches of {half:,} tokens from here on")
        for part in np.array_split(rows, 2):
            self._with_less_memory(encode, job, ids, part)

    def _most(self, ids: list[np.ndarray], rows: np.ndarray) -> int:
        """Documents a batch, should the budget have shrunk since these rows were put together."""
        lengths = [len(ids[row]) for row in rows]
        total = max(lengths) * len(rows) if self.on_gpu else sum(lengths)
        return -(-len(rows) // -(-total // self.tokens_per_batch))

    def _add_busy(self, start: float) -> None:
        with self.tally:
            self.busy_seconds += time.perf_counter() - start
