"""What a cache is a cache of: the encoder settings and the ordered documents, and the fingerprint over both.

Paths, modification times, batch sizes and devices are no part of it.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from twostage import SPLITS
from twostage.encoder.settings import ENCODER_FIELDS, fits_field, given
from twostage.errors import BadInput

STORE_DTYPES = ("float16", "float32")
NAMES_LIMIT = 1 << 26  # bytes of all label names, as JSON


@dataclass(frozen=True, eq=False)
class Identity:
    """N documents in their order, and how they are encoded. Arrays are converted to the dtypes of the cache file.

    encoder      one value for each of ENCODER_FIELDS: digests in hex, names, whole numbers; and those OPTIONAL that are given
    store_dtype  "float16" or "float32"
    hidden_size  D, the length of one vector
    label_names  C names; any string, also an empty one
    digest       (N, 32) uint8, sha256 of each text
    label        (N,) int32, indexes into label_names
    split        (N,) uint8, indexes into SPLITS
    sources      N strings relative to the corpus

    BadInput for names that cannot be kept; ValueError for arrays that do not fit together.
    """

    encoder: dict
    store_dtype: str
    hidden_size: int
    label_names: list[str]
    digest: np.ndarray
    label: np.ndarray
    split: np.ndarray
    sources: list[str]

    def __post_init__(self):
        keep = object.__setattr__
        keep(self, "encoder", {name: self.encoder[name] for name in ENCODER_FIELDS} | given(self.encoder))
        keep(self, "hidden_size", int(self.hidden_size))
        keep(self, "label_names", list(self.label_names))
        keep(self, "digest", np.ascontiguousarray(self.digest, np.uint8))
        keep(self, "label", np.ascontiguousarray(self.label, "<i4"))
        keep(self, "split", np.ascontiguousarray(self.split, np.uint8))
        keep(self, "sources", list(self.sources))
        n = len(self.sources)
        if not n:
            raise BadInput("the corpus holds no document to encode; give one that does")
        if not (self.digest.shape == (n, 32) and self.label.shape == self.split.shape == (n,)):
            raise ValueError("digest, label, split and sources differ in length")
        if self.label.min() < 0 or self.label.max() >= len(self.label_names) or self.split.max() >= len(SPLITS):
            raise ValueError("a label or split lies outside its names")
        if self.store_dtype not in STORE_DTYPES or self.hidden_size < 1:
            raise ValueError(f"cannot store {self.hidden_size} x {self.store_dtype}")
        for name, value in self.encoder.items():
            if not fits_field(name, value):
                raise ValueError(f"encoder setting {name} cannot be {value!r}")
        if decode_names(encode_names(self.label_names)) != self.label_names:
            raise BadInput("a label name holds two surrogates in a row, which JSON cannot keep; rename that label")

    @property
    def split_of(self) -> np.ndarray:
        """`split`, by the name that it has in a FeatureCache."""
        return self.split

    @cached_property
    def source_bytes(self) -> tuple[np.ndarray, np.ndarray]:
        """All sources as UTF-8 without gaps (S,) uint8, lone surrogates let through, and where each ends (N,) int64."""
        each = [source.encode("utf-8", "surrogatepass") for source in self.sources]
        ends = np.cumsum([len(one) for one in each], dtype="<i8")
        return np.frombuffer(b"".join(each), np.uint8), ends

    @cached_property
    def fingerprint(self) -> str:
        """The cache identity, 64 hex digits."""
        text, ends = self.source_bytes
        names = encode_names(self.label_names)
        rows = (self.digest, self.label, self.split, ends, text)
        return fingerprint_of(self.encoder, self.store_dtype, self.hidden_size, names, rows)


def fingerprint_of(encoder: dict, store_dtype: str, hidden_size: int, names: bytes, rows: tuple) -> str:
    """sha256 over the settings as JSON with sorted keys, the label names, then the bytes of `rows`: text digests
    (N, 32), labels int32, splits uint8, source ends int64, sources; little-endian. Hex."""
    settings = {**encoder, "store_dtype": store_dtype, "hidden_size": hidden_size, "documents": len(rows[1])}
    head = json.dumps(settings, sort_keys=True).encode()
    total = hashlib.sha256(b"twostage cache\0")
    for part in (head, names):
        total.update(len(part).to_bytes(8, "little") + part)
    for array in rows:
        total.update(array)
    return total.hexdigest()


def encode_names(names: list[str]) -> bytes:
    """JSON in UTF-8; a lone surrogate, which UTF-8 cannot hold, stays a JSON escape."""
    text = json.dumps(names, ensure_ascii=False)
    data = re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text).encode()
    if len(data) > NAMES_LIMIT:
        raise BadInput(f"the label names take {len(data):,} bytes, more than {NAMES_LIMIT:,}; shorten them")
    return data


def decode_names(data: bytes) -> list[str]:
    """The list of names that encode_names wrote; ValueError for anything else."""
    try:
        names = json.loads(data.decode())
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("not a list of names")
    return names


def cache_path(cache_dir: str | Path, corpus_name: str, model_name: str, identity: Identity) -> Path:
    """<corpus>-<model>-<first 8 hex of the fingerprint>.h5 in that folder."""
    return Path(cache_dir) / f"{corpus_name}-{model_name}-{identity.fingerprint[:8]}.h5"
