"""Texts to be classified, a line each, out of a file or a pipe in any encoding."""

import io
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from twostage.corpus.decoding import Decoder
from twostage.corpus.encodings import likeliest
from twostage.corpus.lines import lines_of
from twostage.errors import BadInput
from twostage.progress import say


class InputLines:
    """The lines of a binary stream as texts, split on newline only, without a byte order mark at the start.

    One that does not decode is refused, replaced in part, or empty, as --on-undecodable says. A pipe can be read but once: to
    find out its encoding (auto) it is copied to a temporary file.
    """

    def __init__(self, stream: BinaryIO, name: str, encoding: str, on_undecodable: str):
        self.on_undecodable, self.name, self.undecodable = on_undecodable, name, 0
        decoder = Decoder.named(encoding, replace=on_undecodable == "replace")
        if encoding == "auto":
            copy = tempfile.TemporaryFile()  # noqa: SIM115, it goes with the process
            shutil.copyfileobj(stream, copy)
            copy.seek(0)
            stream = copy
        self.stream = stream
        self.decoder = decoder.of(io.BytesIO(stream.peek(4)) if encoding != "auto" and hasattr(stream, "peek") else stream)
        if self.decoder.encoding != decoder.encoding:
            say(f"{name}: read as {self.decoder.encoding}")

    def count(self) -> int:
        """How many lines there are; all are decoded, so that one that can't be is refused before any work."""
        total = sum(1 for _ in self)
        self.stream.seek(0)
        self.undecodable = 0
        return total

    def __iter__(self) -> Iterator[str]:
        for number, (offset, raw) in enumerate(lines_of(self.stream, self.decoder.encoding), 1):
            text, bad = self.decoder(raw, start=offset == 0)
            if bad is not None and self.on_undecodable == "fail":
                found = likeliest(raw)
                hint = f"it decodes as {found}: --encoding {found}" if found else "name the encoding: --encoding NAME"
                raise BadInput(
                    f"{self.name}, line {number:,}: not {self.decoder.encoding} at byte {bad:,}; "
                    f"{hint}, or pass --on-undecodable skip or replace"
                )
            self.undecodable += bad is not None
            yield (text or "").removesuffix("\n").removesuffix("\r")
