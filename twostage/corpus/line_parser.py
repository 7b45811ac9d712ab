"""One line of a corpus: text<TAB>id, label<TAB>text, or a JSON object."""

import json
from pathlib import Path

from twostage.corpus.decoding import Decoder, without_surrogates
from twostage.errors import BadInput, shown

TEXT_KEYS = ("sentence", "text")
LABEL_KEYS = ("label_des", "label")


def enumerate_lines(file: Path):
    """Yield (line number from 1, offset in bytes, bytes without their end); lines end at \\n (or \\r\\n) alone."""
    offset = 0
    try:
        with open(file, "rb") as stream:
            for number, raw in enumerate(stream, 1):
                yield number, offset, raw.removesuffix(b"\r\n").removesuffix(b"\n")
                offset += len(raw)
    except OSError as error:
        raise BadInput(f"{shown(file)}: can't be read ({error.strerror})") from None


def parse(kind: str, raw: bytes, decoder: Decoder, *, first: bool, where: str = "", names: list[str] | None = None):
    """Parse a line -> (text, label name, undecodable byte or None).

    The text is None where it can't be decoded, "" for a blank line. `names`: class.txt, for lines of kind ids.
    """
    line, bad = decoder(raw, start=first)
    if line is None or not line.strip():
        return line, None, bad
    if kind == "json":
        text, label = _json(line, where)
        try:
            (text + label).encode()
        except UnicodeEncodeError:
            bad = 0 if bad is None else bad
            text, label = (without_surrogates(text), without_surrogates(label)) if decoder.replace else (None, label)
        return text, label, bad
    if "\t" not in line:
        raise BadInput(f"{where}: no tab in the line; a line is {'text<TAB>id' if kind == 'ids' else 'label<TAB>text'}")
    if kind == "ids":
        text, _, label = line.rpartition("\t")
        return text, label if names is None else _name(label.strip(), names, where), bad
    label, _, text = line.partition("\t")
    if not label.strip():
        raise BadInput(f"{where}: no label before the tab; a line is label<TAB>text")
    return text, label.strip(), bad


def parsed_again(kind: str, raw: bytes, decoder: Decoder, *, first: bool) -> str | None:
    """Return the text of a line that was read before, None where it is no longer a line of its kind."""
    try:
        return parse(kind, raw, decoder, first=first)[0]
    except BadInput:
        return None


def _name(label: str, names: list[str], where: str) -> str:
    if not (label.isascii() and label.isdigit()):
        raise BadInput(f"{where}: '{shown(label[:40])}' after the last tab is no label id; a line is text<TAB>id")
    if len(label) > 9 or int(label) >= len(names):
        raise BadInput(f"{where}: label id {label[:20]}, but class.txt names only 0 to {len(names) - 1}; complete it")
    return names[int(label)]


def _json(line: str, where: str) -> tuple[str, str]:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: not JSON ({shown(error)[:80]}); a line is one object") from None
    if not isinstance(item, dict):
        raise BadInput(f'{where}: not a JSON object; a line is {{"label": …, "text": …}}')
    text = next((item[k] for k in TEXT_KEYS if item.get(k) is not None), None)
    label = next((item[k] for k in LABEL_KEYS if item.get(k) is not None), None)
    if not isinstance(text, str):
        raise BadInput(f'{where}: no text; an object has a string "sentence" or "text"')
    if not isinstance(label, str | int) or isinstance(label, bool) or not str(label).strip():
        raise BadInput(f'{where}: no label; an object has a string or number "label_des" or "label"')
    return text, str(label).strip()


def unlabelled(file: Path, decoder: Decoder) -> bool:
    """Whether the first object of a file has no label, as TNEWS ships its test file."""
    for number, _, raw in enumerate_lines(file):
        line, _ = decoder(raw, start=number == 1)
        if line and line.strip():
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                return False
            return isinstance(item, dict) and all(item.get(key) in (None, "") for key in LABEL_KEYS)
    return False


def class_names(file: Path, decoder: Decoder) -> list[str]:
    """Read class.txt: names by line, from id 0."""
    names = []
    for number, _, raw in enumerate_lines(file):
        name, bad = decoder(raw, start=number == 1)
        if bad is not None:
            raise BadInput(f"class.txt:{number}: not {decoder.encoding}; name the encoding with --encoding")
        names.append(name.strip())
    while names and not names[-1]:
        names.pop()
    for number, name in enumerate(names, 1):
        if not name or name in names[: number - 1]:
            what = f"{shown(name)} again" if name else "no name"
            raise BadInput(f"class.txt:{number}: {what}; each line names one id")
    return names
