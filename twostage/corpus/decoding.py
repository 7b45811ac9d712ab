"""From bytes to documents: decoding, what can't be decoded, and the record kept of each text instead of the text."""

import codecs
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from twostage.corpus.encodings import encoding_of, marked
from twostage.corpus.folders import readable
from twostage.corpus.splits import pick_key, split_position
from twostage.errors import BadInput, shown

RECORD = np.dtype([("digest", "u1", 32), ("position", ">u8"), ("pick", "u1", 32), ("characters", "<i4")])
UTF8_BOM = codecs.BOM_UTF8
ORDERED = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}  # of files without a mark, as Windows writes them


def text_digest(text: str) -> bytes:
    """Return the sha256 of the UTF-8 text, 32 bytes: what identifies a document."""
    return hashlib.sha256(text.encode()).digest()


def record(text: str) -> bytes:
    """Return what is kept of a text (see RECORD). Raises UnicodeEncodeError for lone surrogates."""
    utf8 = text.encode()
    position = split_position(utf8).to_bytes(8, "big")
    return hashlib.sha256(utf8).digest() + position + pick_key(utf8) + len(text).to_bytes(4, "little")


@dataclass(frozen=True)
class Decoder:
    """Decodes bytes by an encoding; `replace` puts U+FFFD for what does not decode."""

    encoding: str
    replace: bool = False

    @staticmethod
    def named(encoding: str, replace: bool = False) -> "Decoder":
        """Make a decoder for "auto" or any of Python's text encodings. Raises BadInput for an unknown name."""
        if encoding == "auto":
            return Decoder("auto", replace)
        try:
            name = codecs.lookup(encoding).name
            "a".encode(name)
            b"\xff".decode(name, "replace")
        except (LookupError, UnicodeError, ValueError):
            raise BadInput(
                f"--encoding {shown(encoding)}: not a text encoding; give utf-8, gb18030, big5 or another, or auto"
            ) from None
        return Decoder("utf-8" if name == "utf-8-sig" else name, replace)

    def of(self, stream: BinaryIO) -> "Decoder":
        """The decoder of one file, found out where the encoding is auto; a mark of UTF-16 or UTF-32 goes before any name."""
        head = stream.read(4)
        stream.seek(0)
        found = marked(head) or (encoding_of(stream) or "utf-8" if self.encoding == "auto" else ORDERED.get(self.encoding))
        return Decoder(found, self.replace) if found and found != self.encoding else self

    def of_file(self, file: Path) -> "Decoder":
        with readable(file), open(file, "rb") as stream:
            return self.of(stream)

    @property
    def by_line(self) -> bool:
        """Whether lines can be told apart before they are decoded."""
        return "a\t\n".encode(self.encoding) == b"a\t\n"

    def __call__(self, raw: bytes, *, start: bool) -> tuple[str | None, int | None]:
        """Decode -> (text, None), or (replaced text or None, offset of the first undecodable byte).

        `start`: these bytes begin a file, so a byte order mark is removed, in whatever encoding.
        """
        marked = start and self.by_line and raw.startswith(UTF8_BOM)
        if marked:
            raw = raw[len(UTF8_BOM) :]
        bad = None
        try:
            text = raw.decode(self.encoding)
            if self.encoding != "utf-8":
                text.encode()  # some encodings yield halves of characters
        except UnicodeEncodeError:
            bad = 0
        except UnicodeError as error:
            bad = getattr(error, "start", 0) + len(UTF8_BOM) * marked
        if bad is not None:
            if not self.replace:
                return None, bad
            text = without_surrogates(raw.decode(self.encoding, "replace"))
        return text.removeprefix("\ufeff") if start and not marked else text, bad

    def lenient(self, raw: bytes, *, start: bool) -> str:
        """Decode with U+FFFD for what does not, whatever `replace` says."""
        return Decoder(self.encoding, True)(raw, start=start)[0]

    def whole(self, text: str) -> str | None:
        """A text that UTF-8 can hold: halves of characters replaced, or None where that isn't wanted."""
        try:
            text.encode()
        except UnicodeEncodeError:
            return without_surrogates(text) if self.replace else None
        return text

    def refuse_binary(self, raw: bytes, where: str, offset: int = 0) -> None:
        """Raise BadInput when bytes hold a NUL, which no text has but in UTF-16 and UTF-32."""
        if b"\0" in raw and self.by_line:
            where, byte = shown(where), offset + raw.index(0)
            raise BadInput(f"{where}: a binary file (NUL at byte {byte:,}); take it out, or name its --encoding (utf-16?)")


def without_surrogates(text: str) -> str:
    """Put U+FFFD for each lone surrogate: half a character, which UTF-8 can't hold."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
