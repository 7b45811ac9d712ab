"""Which of the corpus forms a path holds: a tree of class folders, or files with a document a line."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from twostage import SPLITS
from twostage.corpus.decoding import UTF8_BOM
from twostage.errors import BadInput, shown

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
SPLIT_FILE = re.compile(r"(?:.*[._-])?(train|val|valid|validation|dev|test)\.(txt|tsv|json|jsonl)", re.IGNORECASE)
JSON_SUFFIXES = (".json", ".jsonl")
FORMS = (
    "one folder a class with .txt files, or train.txt, dev.txt, test.txt (text<TAB>id with class.txt, or "
    "label<TAB>text), or train.json"
)


@dataclass(frozen=True)
class Layout:
    """What stands where. `parts`: (split or None, folder or file relative to `root`); kind: tree, ids, labels, json."""

    kind: str
    phrase: str
    root: Path
    parts: list[tuple[str | None, str]]
    notes: list[str] = field(default_factory=list)


def recognise(path: str | os.PathLike) -> Layout:
    """Recognise the form of a corpus. Raises BadInput where there is none."""
    path = Path(path)
    try:
        if path.is_dir():
            return _folder(path)
        if path.is_file():
            kind = _line_kind(path)
            return Layout(kind, f"a single file of {_lines(kind)}", path.parent, [(None, path.name)])
    except OSError as error:
        raise BadInput(f"{shown(error.filename or path)}: can't be read ({error.strerror})") from None
    raise BadInput(f"{shown(path)}: no such corpus; give a folder or a file ({FORMS})")


def _folder(path: Path) -> Layout:
    with os.scandir(path) as entries:
        entries = sorted((e for e in entries if not ignored(e.name)), key=lambda e: e.name)
    matches = [SPLIT_FILE.fullmatch(e.name) for e in entries if e.is_file()]
    files = [(SPLIT_NAMES[m[1].lower()], m[0]) for m in matches if m]
    folders = [e.name for e in entries if e.is_dir()]
    if any(split == "train" for split, _ in files):
        return _split_files(path, files)
    full = [name for name in folders if has_txt(path / name)]
    split_folders = [n for n in folders if n.lower() in SPLIT_NAMES and n not in full and _has_classes(path / n)]
    if any(SPLIT_NAMES[n.lower()] == "train" for n in split_folders):
        parts = [(SPLIT_NAMES[n.lower()], n) for n in split_folders]
        _refuse_twice(path, parts)
        notes = _left_out([n for n in folders if n not in split_folders])
        return Layout("tree", "a tree of class folders in split folders", path, parts, notes)
    if not full:
        raise BadInput(f"{shown(path)}: {_why_empty(path, files, entries, folders)}")
    notes = _left_out([n for n in folders if n not in full])
    return Layout("tree", "a tree of class folders", path, [(None, "")], notes)


def _split_files(path: Path, files: list[tuple[str, str]]) -> Layout:
    _refuse_twice(path, files)
    files.sort(key=lambda part: SPLITS.index(part[0]))
    kinds = {_line_kind(path / name) for _, name in files if os.path.getsize(path / name)} or {"labels"}
    if len(kinds) > 1:
        names = ", ".join(shown(name) for _, name in files)
        raise BadInput(f"{shown(path)}: {names} are in different formats; keep those of one corpus in the folder")
    kind = kinds.pop()
    return Layout(kind, f"files of {_lines(kind)}", path, files)


def _refuse_twice(path: Path, parts: list[tuple[str, str]]) -> None:
    for split in SPLITS:
        names = [name for s, name in parts if s == split]
        if len(names) > 1:
            raise BadInput(f"{shown(path)}: {' and '.join(map(shown, names))} are both {split}; keep one of them")


def _line_kind(file: Path) -> str:
    with open(file, "rb") as stream:
        head = stream.read(1 << 16).removeprefix(UTF8_BOM)
    if file.suffix.lower() in JSON_SUFFIXES or _is_json(head.lstrip().split(b"\n")[0]):
        return "json"
    if (file.parent / "class.txt").is_file():
        with_id, tabbed = (len(re.findall(end, head, re.MULTILINE)) for end in (rb"\t *\d+ *\r?$", rb"\t.*$"))
        return "ids" if 2 * with_id >= tabbed else "labels"
    # Without class.txt a line is label<TAB>text. A number at the end of every line, after texts that hardly repeat, is
    # an id that nothing names.
    lines = [line.split(b"\t") for line in head.split(b"\n")[:-1] if b"\t" in line]
    if len(lines) > 1 and all(line[-1].strip().isdigit() for line in lines):
        firsts, lasts = {line[0] for line in lines}, {line[-1] for line in lines}
        if len(lasts) < len(firsts):
            raise BadInput(f"{shown(file)}: lines are text<TAB>id, but no class.txt beside it names the ids; add it")
    return "labels"


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _lines(kind: str) -> str:
    return {"ids": "text<TAB>id lines with class.txt", "labels": "label<TAB>text lines", "json": "JSON lines"}[kind]


def _why_empty(path, files, entries, folders) -> str:
    if files:
        return f"{', '.join(shown(name) for _, name in files)} but no train file; add it"
    for name in folders:
        if _has_classes(path / name):
            return f"no .txt in its folders; did you mean {shown(path / name)}?"
    if any(is_txt(e) for e in entries):
        return f".txt files but no class folders; a corpus is {FORMS}"
    return f"no .txt in it; a corpus is {FORMS}"


def _left_out(names: list[str]) -> list[str]:
    if not names:
        return []
    more = " …" if len(names) > 5 else ""
    return [f"left out, as no class folder with .txt files: {', '.join(map(shown, names[:5]))}{more}"]


def ignored(name: str) -> bool:
    """Whether a name is hidden, or what macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


def is_txt(entry: os.DirEntry) -> bool:
    """Whether a folder's entry is a document; a broken link is one too, so that it is named and not passed over."""
    if not entry.name.lower().endswith(".txt") or ignored(entry.name):
        return False
    return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))


def has_txt(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(is_txt(e) for e in entries)


def _has_classes(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(e.is_dir() and not ignored(e.name) and has_txt(e.path) for e in entries)
