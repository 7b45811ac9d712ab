"""Which documents share an optimizer step, and how a step is cut into what memory holds.

A global batch (64 documents by the recipes) follows from (seed, epoch) alone; micro-batches are cut out of it afterwards. So
the size of a micro-batch changes the memory that a step takes, and nothing else. Nor does the number of ranks: each takes its
share of the micro-batches of every global batch.
"""

import numpy as np
from torch.utils.data import Sampler

from twostage.runs.shuffle import epoch_order

POOL = 50  # global batches drawn together and sorted by length: little padding, and still a fresh mixture each epoch


def global_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch (from 1): each document once; every batch full but the last, which takes what is left over.

    lengths (N,) tokens. Documents are shuffled, taken in pools of 50 batches, sorted by length within a pool and cut;
    then the order of the batches is shuffled. The left-over documents are taken off the shuffled end, before any sorting, so
    no length is more likely to be left over than another.
    """
    order = epoch_order(len(lengths), seed, epoch).numpy()
    full = len(order) - len(order) % batch_size
    batches = []
    for first in range(0, full, POOL * batch_size):
        pool = order[first : min(first + POOL * batch_size, full)]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += np.split(pool, len(pool) // batch_size)
    shuffled = epoch_order(len(batches), seed, -epoch).tolist()  # a stream of its own: epochs count from 1
    batches = [batches[i] for i in shuffled]
    if full < len(order):
        rest = order[full:]
        batches.append(rest[np.argsort(lengths[rest], kind="stable")])
    return batches


class MicroBatches(Sampler):
    """A batch sampler: the global batches of `epoch`, each cut into micro-batches of neighbours in length.

    Every global batch but the last has exactly `per_step` micro-batches, as the Trainer's gradient accumulation needs.
    `epoch` (from 1) is set by the trainer before it iterates. Of several ranks each takes every `ranks`th micro-batch, all of
    them as many; where there are too few, a rank gets one document of weight zero, given as ~row.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, micro_batch: int, seed: int, rank: int = 0, ranks: int = 1):
        self.lengths, self.batch_size, self.seed, self.rank, self.ranks = lengths, batch_size, seed, rank, ranks
        self.micro_batch = min(micro_batch, -(-batch_size // ranks))
        self.per_step = self._each(batch_size)
        self.epoch = 1

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-len(self.lengths) // self.batch_size)

    def __len__(self) -> int:
        full, rest = divmod(len(self.lengths), self.batch_size)
        return full * self.per_step + self._each(rest)

    def _each(self, documents: int) -> int:
        """Micro-batches of a rank in a global batch of that many documents."""
        return -(-documents // (self.micro_batch * self.ranks))

    def __iter__(self):
        for batch in global_batches(self.lengths, self.batch_size, self.seed, self.epoch):
            for turn in range(self._each(len(batch))):
                first = (turn * self.ranks + self.rank) * self.micro_batch
                yield batch[first : first + self.micro_batch].tolist() or [~int(batch[0])]
