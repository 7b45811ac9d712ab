"""Which files of a path are a corpus: a tree of class folders, or tables of rows, a file a split."""

import contextlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from twostage import SPLITS
from twostage.corpus.folders import (
    SPLIT_NAMES,
    ClassFolder,
    LeftOut,
    class_folders,
    entries_of,
    has_documents,
    hidden,
    is_document,
    readable,
    split_of,
    subfolders,
)  # fmt: skip
from twostage.errors import BadInput, shown

NAMES = "|".join(SPLIT_NAMES)
SUFFIXES = "txt|tsv|csv|json|jsonl|ndjson|parquet|arrow"
SPLIT_FILE = re.compile(rf"(?:.*[._-])?({NAMES})(-\d+-of-\d+)?\.({SUFFIXES})", re.IGNORECASE)
TABLE = re.compile(rf".*\.({SUFFIXES.replace('txt|', '')})", re.IGNORECASE)
SHARD = re.compile(r"(?:.*-)?\d+(?:-of-\d+)?\.(parquet|arrow|jsonl|json|csv)", re.IGNORECASE)
PACKED = re.compile(r".*\.(gz|bz2|xz|zst|zip|7z|rar|tar|tgz|xlsx?)", re.IGNORECASE)
LEVELS = 2  # below a folder that is no corpus, in which one is looked for
FORMS = (
    "one folder per class with one file per document; or a table of texts and labels, as CSV, JSON, Parquet or lines of "
    "label<TAB>text; or train.csv, dev.csv, test.csv and the like"
)


@dataclass(frozen=True)
class Layout:
    """What stands where. A tree has `folders`; tables have `parts`, (split or None, file relative to `root`)."""

    phrase: str
    root: Path
    parts: list[tuple[str | None, str]] = field(default_factory=list)
    folders: list[ClassFolder] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def recognise(path: str | os.PathLike) -> Layout:
    """Recognise the form of a corpus. Raises BadInput where there is none."""
    path = Path(path)
    with readable():
        if path.is_dir():
            return _folder(path)
        if path.is_file():
            return Layout("a single file of ", path.parent, [(None, path.name)])
        if path.exists():
            raise BadInput(
                f"{shown(path)}: neither a folder nor a regular file; a corpus is read more than once: save it in a file"
            )
    raise BadInput(f"{shown(path)}: no such corpus; give a folder or a file ({FORMS})")


def _folder(path: Path, levels: int = LEVELS) -> Layout:
    saved = _saved_dataset(path)
    if saved:
        return saved
    entries = entries_of(path)
    files = [(m, n) for n, e in entries if e.is_file() and not hidden(n) and (m := SPLIT_FILE.fullmatch(n))]
    parts = [(SPLIT_NAMES[m[1].lower()], name) for m, name in files]
    if any(split == "train" for split, _ in parts):
        _refuse_twice(path, [(split, name) for (split, name), (m, _) in zip(parts, files, strict=True) if not m[2]])
        return _tables(path, parts, [n for n, e in entries if is_document(n, e) or e.is_dir()])
    folders = class_folders(path)
    if not folders:
        shards = [
            (SPLIT_NAMES[name.lower()], f"{name}/{file}")
            for name in subfolders(path)
            if name.lower() in SPLIT_NAMES
            for file, entry in entries_of(path, name)
            if entry.is_file() and SHARD.fullmatch(file)
        ]
        if any(split == "train" for split, _ in shards):
            return _tables(path, shards, [n for n, _ in entries])
        raise BadInput(f"{shown(path)}: {_why_empty(path, [name for _, name in parts], levels)}")
    if len(folders) == 1 and (inner := _meant(path, levels)):
        raise BadInput(f"{shown(path)}: a single class folder; did you mean {shown(inner)}?")
    if folders[0].split is None:
        return Layout("a tree of class folders", path, folders=folders)
    tops = {(one.split, next(part for part in one.path.split("/") if split_of(part) == one.split)) for one in folders}
    _refuse_twice(path, sorted(tops))
    return Layout("a tree of class folders in split folders", path, folders=folders)


def _tables(path: Path, parts: list[tuple[str, str]], present: list[str]) -> Layout:
    left_out, used = LeftOut(), {name.split("/")[0] for _, name in parts} | {"class.txt"}
    for name in present:
        if name not in used and not hidden(name):
            left_out.add("beside the files of the splits", name)
    parts.sort(key=lambda part: SPLITS.index(part[0]))
    return Layout("files of ", path, parts, notes=left_out.lines())


def _saved_dataset(path: Path) -> Layout | None:
    """What `save_to_disk` of the datasets library left: one dataset, or a folder a split."""
    if (path / "dataset_dict.json").is_file():
        names = [name for name in subfolders(path) if (path / name / "state.json").is_file()]
        splits = [(SPLIT_NAMES[name.lower()], name) for name in names if name.lower() in SPLIT_NAMES]
        _refuse_twice(path, splits)
        left_out = LeftOut()
        for name in names:
            if name.lower() not in SPLIT_NAMES:
                left_out.add("no split of train, val or test", name)
        if not any(split == "train" for split, _ in splits):
            raise BadInput(f"{shown(path)}: {', '.join(map(shown, names))}, but no train split in this dataset; add it")
        splits.sort(key=lambda part: SPLITS.index(part[0]))
        parts = [(split, f"{name}/{file}") for split, name in splits for file in _arrow_files(path / name)]
        return Layout("a saved dataset of ", path, parts, notes=left_out.lines())
    if (path / "state.json").is_file():
        return Layout("a saved dataset of ", path, [(None, file) for file in _arrow_files(path)])
    return None


def _arrow_files(folder: Path) -> list[str]:
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        names = [file["filename"] for file in state["_data_files"]]
        if not names or not all(isinstance(name, str) and os.path.basename(name) == name for name in names):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{shown(folder / 'state.json')}: names no Arrow files; save the dataset again") from None
    return names


def _refuse_twice(path: Path, parts: list[tuple[str, str]]) -> None:
    for split in SPLITS:
        names = [name for s, name in parts if s == split]
        if len(names) > 1:
            raise BadInput(f"{shown(path)}: {' and '.join(map(shown, names))} are both {split}; keep one of them")


def _meant(path: Path, levels: int) -> Path | None:
    """A folder in this one that is a corpus by itself."""
    for name in subfolders(path) if levels else ():
        with contextlib.suppress(BadInput):
            _folder(path / name, levels - 1)
            return path / name
    return None


def _why_empty(path: Path, files: list[str], levels: int) -> str:
    if files:
        return f"{', '.join(map(shown, files))} but no train file; add it"
    if inner := _meant(path, levels):
        return f"no documents in its folders; did you mean {shown(inner)}?"
    tables = [name for name, entry in entries_of(path) if entry.is_file() and TABLE.fullmatch(name)]
    if tables:
        return f"no train file; did you mean {' or '.join(shown(path / name) for name in tables[:3])}?"
    packed = [name for name, entry in entries_of(path) if entry.is_file() and PACKED.fullmatch(name)]
    if packed:
        return f"no train file, but {', '.join(map(shown, packed[:3]))}: unpack it, or save it as CSV"
    if has_documents(path):
        return f"files but no class folders; a corpus is {FORMS}"
    return f"no documents in it; a corpus is {FORMS}"
