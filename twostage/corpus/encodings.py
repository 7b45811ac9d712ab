"""Which encoding bytes are in: by a mark at their start, else the one in which they look most like writing."""

import codecs
import re

MARKS = (
    (b"\xff\xfe\0\0", "utf-32-le"), (b"\0\0\xfe\xff", "utf-32-be"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"),
)  # fmt: skip
CANDIDATES = ("gb18030", "big5", "cp1252")
LIKELY = 0.8  # share of the characters beyond ASCII that are common ones
COMMON = {
    "gb18030": re.compile(rb"(?:[\xa1-\xa3\xb0-\xf7][\xa1-\xfe])+"),  # GB 2312: punctuation and 6,763 ideographs
    "big5": re.compile(rb"(?:[\xa1-\xc6][\x40-\x7e\xa1-\xfe])+"),  # punctuation and the 5,401 frequent ideographs
    "cp1252": re.compile(rb"(?<![\x80-\xff])[\x80-\xff]{1,2}(?![\x80-\xff])"),  # a letter or a sign among ASCII
}
BEYOND = re.compile(rb"[\x80-\xff]")
STEP = 1 << 20  # bytes at a time


def marked(head: bytes) -> str | None:
    """The encoding that a byte order mark says; UTF-8's says nothing new."""
    return next((encoding for mark, encoding in MARKS if head.startswith(mark)), None)


def decodes(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding).encode()
    except UnicodeError:
        return False
    return True


def likeliest(raw: bytes) -> str | None:
    """The encoding of text that is not UTF-8: one that decodes all of it into mostly common characters; None if none does.

    In gb18030 and big5 nearly any bytes decode, so what counts is how many of them belong to characters in daily use.
    """
    beyond = len(BEYOND.findall(raw))
    scores = {}
    for encoding in CANDIDATES:
        if beyond and decodes(raw, encoding):
            common = sum(len(BEYOND.findall(run)) for run in COMMON[encoding].findall(raw))
            scores[encoding] = common / beyond
    best = max(scores, key=scores.get, default=None)
    return best if best and scores[best] >= LIKELY else None


def encoding_of(stream) -> str | None:
    """The encoding of a whole binary stream: utf-8 where it decodes, None where nothing likely does."""
    head = stream.read(4)
    if found := marked(head):
        return found
    decoder, bad = codecs.getincrementaldecoder("utf-8")(), head
    try:
        while bad:
            decoder.decode(bad)
            bad = stream.read(STEP)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        stream.seek(0)
        return likeliest(_lines(stream))
    return "utf-8"


def _lines(stream) -> bytes:
    """Lines beyond ASCII, up to 16 MB of them: whole, so that no character is cut."""
    kept, size = [], 0
    for line in stream:
        if not line.isascii():
            kept.append(line)
            size += len(line)
            if size > 16 * STEP:
                break
    return b"".join(kept)
