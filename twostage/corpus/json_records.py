"""JSON lines and JSON arrays of objects, an object at a time with its place in bytes."""

import codecs
import json
import re
from itertools import islice
from pathlib import Path

from twostage.corpus.decoding import Decoder
from twostage.corpus.folders import readable
from twostage.corpus.lines import decoded_lines
from twostage.errors import BadInput, shown

BLOCK = 1 << 20  # bytes of an array that are read at a time
SAMPLE = 100  # objects that show which keys there are
LONGEST = 64 * BLOCK  # bytes of an object; what is longer is none
OPENING, BETWEEN = re.compile(r"\ufeff?\s*\[\s*"), re.compile(r"\s*(?:,\s*|(?=\]))")


class JsonRecords:
    """A file of objects. array: one JSON array, else an object a line."""

    def __init__(self, file: Path, name: str, decoder: Decoder, *, array: bool):
        self.file, self.name, self.decoder, self.array = file, name, decoder, array
        self.form = "JSON objects in an array" if array else "JSON lines"
        self.features, self.ids, self.guessed, self.header = {}, False, True, False
        keys: dict[str, None] = {}
        for _, _, _, item, _ in islice(self._records(), SAMPLE):
            keys |= dict.fromkeys(item or ())
        self.columns = list(keys)

    def read(self, names: list[str]):
        """Yield (number from 1, offset, length, the values of these keys or None, undecodable byte or None)."""
        for number, offset, length, item, bad in self._records():
            if item is not None and not any(name in item for name in names[:-1] or names):
                raise BadInput(f"{self._at(number)}: no {shown(' or '.join(names[:-1] or names))} in the object")
            values = None if item is None else self._values(item, names)
            if values is None and item is not None:
                bad = offset if bad is None else bad
            yield number, offset, length, values, bad

    def again(self, raw: bytes, names: list[str], first: bool) -> list | None:
        """The values of an object read before, None where it is one no longer."""
        text, _ = self.decoder(raw, start=first)
        try:
            item = json.loads(text or "")
        except (ValueError, RecursionError):
            return None
        return self._values(item, names) if isinstance(item, dict) else None

    def _values(self, item: dict, names: list[str]) -> list | None:
        """Values; None where one holds half a character, which UTF-8 can't hold, and it isn't to be replaced."""
        values = [item.get(name) for name in names]
        for i, value in enumerate(values):
            if isinstance(value, str):
                whole = self.decoder.whole(value)
                if whole is None:
                    return None
                values[i] = whole
        return values

    def _records(self):
        yield from self._elements() if self.array else self._lines()

    def _lines(self):
        for number, (offset, length, line, bad) in enumerate(decoded_lines(self.file, self.decoder), 1):
            item = None
            if line is not None and line.strip():
                try:
                    item = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise BadInput(f"{self._at(number)}: not JSON ({shown(error)[:80]}); a line is one object") from None
                self._refuse_other(item, number)
            yield number, offset, length, item, bad

    def _elements(self):
        """The objects of an array; one that a block's end cuts is tried again with the next block."""
        parser, blocks, number, offset = json.JSONDecoder(), self._blocks(), 0, 0
        buffer, at, between = "", 0, OPENING  # `offset` bytes stand before buffer[at]
        while True:
            found, reason = between.match(buffer, at), "no array" if between is OPENING else "a comma or ] is missing"
            if found and buffer[found.end() : found.end() + 1] == "]":
                return
            if found and found.end() < len(buffer):
                try:
                    item, end = parser.raw_decode(buffer, found.end())
                    if end < len(buffer):  # what stands at the very end may go on
                        number, between = number + 1, BETWEEN
                        self._refuse_other(item, number)
                        offset += len(buffer[at : found.end()].encode(self.decoder.encoding))
                        length = len(buffer[found.end() : end].encode(self.decoder.encoding))
                        yield number, offset, length, item, None
                        offset, at = offset + length, end
                        continue
                except (ValueError, RecursionError) as error:
                    reason = shown(error)[:80]
            block = next(blocks, None) if len(buffer) - at < LONGEST else None
            if block is None:
                raise BadInput(f"{self._at(number + 1)}: not JSON ({reason}); fix the file")
            buffer, at = buffer[at:] + block, 0

    def _blocks(self):
        """The text of the file, a block at a time."""
        decode, offset = codecs.getincrementaldecoder(self.decoder.encoding)(), 0
        try:
            with readable(self.name), open(self.file, "rb") as stream:
                while block := stream.read(BLOCK):
                    self.decoder.refuse_binary(block, self.name, offset)
                    yield decode.decode(block)
                    offset += len(block)
                yield decode.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise BadInput(
                f"{shown(self.name)}: not {self.decoder.encoding} near byte {offset + error.start:,}; "
                "an array is read whole or not at all: name its --encoding"
            ) from None

    def _refuse_other(self, item, number: int) -> None:
        if not isinstance(item, dict):
            raise BadInput(f'{self._at(number)}: not a JSON object; a document is {{"label": …, "text": …}}')

    def _at(self, number: int) -> str:
        return f"{shown(self.name)}:{number}"
