"""From texts to token ids, cut to max_length, without tokenizing what would be cut off anyway."""

import json
import re

import numpy as np
from tokenizers import Tokenizer

# White space and CJK ideographs, which BERT's normalizer turns into words of their own: a word never reaches across one.
WORD_BOUNDARY = re.compile("[ \t\n\r\u3000\u3400-\u4dbf\u4e00-\u9fff]")
WIDE_CHARACTERS = 1.6  # per token to start with, in Chinese
NARROW_CHARACTERS = 7  # in alphabetic scripts
HEAD = 128  # tokens


class Tokens:
    """A fast tokenizer with fixed truncation: head keeps the first tokens of a longer text, tail the last ones, head-tail the
    first HEAD (at most half of max_length) and the last (Sun et al. 2019). `prefix` stands in front of every text.

    tokenizer: of transformers. It is copied, so that nobody else's truncation or padding setting matters.
    """

    def __init__(self, tokenizer, max_length: int, truncation: str = "head", prefix: str = ""):
        self.max_length, self.prefix = max_length, prefix
        self.kept = OneEnd(tokenizer, max_length, tail=truncation == "tail")
        self.backend, self.can_cut, self.promising = self.kept.backend, self.kept.can_cut, self.kept.promising
        self.last = None
        if truncation == "head-tail":
            self.first = 1 + head_tokens(max_length)  # with [CLS]
            self.last = OneEnd(tokenizer, 1 + max_length - self.first, tail=True)  # [CLS] is cut off again

    def __call__(self, texts: list[str]) -> tuple[list[np.ndarray], np.ndarray]:
        """Token ids (T,) int32 of each text, [CLS] and [SEP] included, and whether it was cut (N,) bool."""
        texts = [self.prefix + text for text in texts] if self.prefix else texts
        ids, cut = self.kept(texts)
        if self.last:
            long = np.flatnonzero(cut)
            for i, end in zip(long, self.last([texts[i] for i in long])[0], strict=True):
                ids[i] = np.concatenate([ids[i][: self.first], end[1:]])
        return ids, cut

    def full_lengths(self, texts: list[str]) -> np.ndarray:
        """Tokens (N,) that each text would have without truncation, [CLS] and [SEP] included."""
        whole = Tokenizer.from_str(self.backend.to_str())
        whole.no_truncation()
        return np.array([len(one.ids) for one in whole.encode_batch_fast([self.prefix + text for text in texts])], np.int64)


def head_tokens(max_length: int) -> int:
    """How many of a longer text's first tokens head-tail keeps, [CLS] not counted: 128, or half of a small max_length."""
    return min(HEAD, max_length // 2)


class OneEnd:
    """A tokenizer that keeps one end of a longer text."""

    def __init__(self, tokenizer, max_length: int, *, tail: bool):
        self.backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.backend.no_padding()
        self.backend.enable_truncation(max_length, direction="left" if tail else "right")
        self.max_length, self.tail = max_length, tail
        self.can_cut = words_end_at_boundaries(self.backend)

    def __call__(self, texts: list[str]) -> tuple[list[np.ndarray], np.ndarray]:
        pieces = [self.promising(text) for text in texts] if self.can_cut else texts
        encoded = self.backend.encode_batch_fast(pieces)
        unsure = [
            i
            for i, (piece, text, one) in enumerate(zip(pieces, texts, encoded, strict=True))
            if len(piece) != len(text) and not one.overflowing
        ]
        if unsure:  # the part did not fill max_length: the whole text decides
            for i, one in zip(unsure, self.backend.encode_batch_fast([texts[i] for i in unsure]), strict=True):
                encoded[i] = one
        ids = [np.array(one.ids, np.int32) for one in encoded]
        return ids, np.array([bool(one.overflowing) for one in encoded], bool)

    def promising(self, text: str) -> str:
        """A part of the text that ends (tail: begins) between two words and probably holds more than max_length tokens.

        Words are tokenized one by one, so if it does hold more, the tokens kept are those of the whole text.
        """
        sample = text[-200:] if self.tail else text[:200]
        wide = len(sample.encode("utf-8", "replace")) > 2 * len(sample)
        wanted = int(self.max_length * (WIDE_CHARACTERS if wide else NARROW_CHARACTERS)) + 16
        if len(text) <= wanted:
            return text
        if not self.tail:
            found = WORD_BOUNDARY.search(text, wanted)
            return text[: found.end()] if found else text
        for start in range(len(text) - wanted, -1, -1):
            if WORD_BOUNDARY.match(text[start]):
                return text[start:]
        return text


def words_end_at_boundaries(backend: Tokenizer) -> bool:
    """Whether a text can be cut at WORD_BOUNDARY without changing the tokens on either side: BERT's own normalizer, words
    and WordPiece, and no added token that holds such a character."""
    parts = json.loads(backend.to_str())
    normalizer, words = parts["normalizer"] or {}, parts["pre_tokenizer"] or {}
    return (
        normalizer.get("type") == "BertNormalizer"
        and normalizer.get("handle_chinese_chars") is True
        and normalizer.get("clean_text") is True
        and words.get("type") == "BertPreTokenizer"
        and parts["model"].get("type") == "WordPiece"
        and not any(WORD_BOUNDARY.search(token["content"]) for token in parts["added_tokens"])
    )
