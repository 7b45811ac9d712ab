"""The token ids of documents, tokenized once and kept flat: two bytes a token for a vocabulary like BERT's."""

from dataclasses import dataclass

import numpy as np
import torch

from twostage.encoder.tokenizer import Tokens
from twostage.progress import Progress

IGNORED = -100  # cross_entropy's own
CHUNK = 2000  # documents read and tokenized at a time


@dataclass
class TokenRows:
    """N documents: ids of all tokens in one array, where each begins (N + 1), labels (N,); `length` is tokens each."""

    ids: np.ndarray
    begin: np.ndarray
    label: np.ndarray

    @property
    def length(self) -> np.ndarray:
        return np.diff(self.begin)

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, row: int) -> int:
        return row  # a batch is put together from its rows at once, by `batch`

    def batch(self, rows: list[int], pad: int) -> dict[str, torch.Tensor]:
        """input_ids (B, T) padded to the longest of these rows, labels (B,), and attention_mask (B, T) where there is padding.

        A row given as ~row counts for nothing: its label is IGNORED."""
        ignored, rows = [row < 0 for row in rows], [max(row, ~row) for row in rows]
        pieces = [self.ids[self.begin[row] : self.begin[row + 1]] for row in rows]
        longest = max(map(len, pieces))
        ids = np.full((len(rows), longest), pad, np.int64)
        for i, piece in enumerate(pieces):
            ids[i, : len(piece)] = piece
        batch = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(self.label[rows].astype(np.int64))}
        batch["labels"][torch.tensor(ignored)] = IGNORED
        lengths = np.array([len(piece) for piece in pieces])
        if (lengths < longest).any():
            batch["attention_mask"] = torch.from_numpy((np.arange(longest) < lengths[:, None]).astype(np.int64))
        return batch


def tokenize(corpus, rows: np.ndarray, tokens: Tokens, label: str) -> TokenRows:
    """Read and tokenize these rows of the corpus, a few thousand at a time."""
    dtype = np.uint16 if tokens.backend.get_vocab_size() <= 2**16 else np.int32
    pieces, counts = [np.empty(0, dtype)], [0]
    with Progress(len(rows), "documents", label) as progress:
        for first in range(0, len(rows), CHUNK):
            chunk = rows[first : first + CHUNK]
            ids, _ = tokens(corpus.texts(chunk))
            counts += map(len, ids)
            pieces.append(np.concatenate(ids).astype(dtype))
            progress.advance(len(chunk))
    return TokenRows(np.concatenate(pieces), np.cumsum(counts, dtype=np.int64), corpus.label[rows])
