"""Which of the corpus forms a path holds: a tree of class folders, or files with a document a line."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from twostage import SPLITS
from twostage.corpus.decoding import UTF8_BOM
from twostage.corpus.folders import SPLIT_NAMES, ClassFolder, class_folders, entries_of, has_documents, subfolders
from twostage.errors import BadInput, shown

SPLIT_FILE = re.compile(r"(?:.*[._-])?(train|val|valid|validation|dev|test)\.(txt|tsv|json|jsonl)", re.IGNORECASE)
JSON_SUFFIXES = (".json", ".jsonl")
FORMS = (
    "one folder a class with a file a document, or train.txt, dev.txt, test.txt (text<TAB>id with class.txt, or "
    "label<TAB>text), or train.json"
)


@dataclass(frozen=True)
class Layout:
    """What stands where. kind: tree, ids, labels, json; `parts`: (split or None, file relative to `root`), or of a tree
    its `folders`."""

    kind: str
    phrase: str
    root: Path
    parts: list[tuple[str | None, str]]
    notes: list[str] = field(default_factory=list)
    folders: list[ClassFolder] = field(default_factory=list)


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
    files = [(SPLIT_NAMES[m[1].lower()], m[0]) for n, e in entries_of(path) if e.is_file() and (m := SPLIT_FILE.fullmatch(n))]
    if any(split == "train" for split, _ in files):
        return _split_files(path, files)
    folders = class_folders(path)
    if not folders:
        raise BadInput(f"{shown(path)}: {_why_empty(path, files)}")
    if folders[0].split is None:
        return Layout("tree", "a tree of class folders", path, [], folders=folders)
    tops = {(one.split, part) for one in folders for part in one.path.split("/") if part.lower() in SPLIT_NAMES}
    _refuse_twice(path, sorted(tops))
    return Layout("tree", "a tree of class folders in split folders", path, [], folders=folders)


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


def _why_empty(path: Path, files: list[tuple[str, str]]) -> str:
    if files:
        return f"{', '.join(shown(name) for _, name in files)} but no train file; add it"
    for name in subfolders(path):
        if class_folders(path / name):
            return f"no documents in its folders; did you mean {shown(path / name)}?"
    if has_documents(path):
        return f"files but no class folders; a corpus is {FORMS}"
    return f"no documents in it; a corpus is {FORMS}"
