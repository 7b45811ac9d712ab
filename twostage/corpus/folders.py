"""The folders of a tree: which are classes, which are splits, which files are documents, and what is left out.

Names are their bytes as UTF-8 (what is not UTF-8 stays as lone surrogates), whatever the locale takes them for.
"""

import contextlib
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from twostage.errors import BadInput, shown

SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
UNLABELLED = ("unsup", "unsupervised", "unlabeled", "unlabelled")  # no class, beside classes in a split: aclImdb's train/unsup
SNIFFED = 4096  # bytes that tell text from other things
SAMPLES = 4  # files of a suffix that are looked into
COMMON = 0.1  # of all files: a suffix that so many documents have is no accident
NAMED = 3


@dataclass
class LeftOut:
    """What is no document: kind -> how many and the first few names."""

    counts: Counter = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        self.counts[kind] += 1
        first = self.names.setdefault(kind, [])
        if len(first) < NAMED:
            first.append(shown(name))

    def lines(self) -> list[str]:
        """One line, or none where nothing was left out."""
        said = [f"{n:,} {kind} ({', '.join(self.names[kind])}{', …' if n > NAMED else ''})" for kind, n in self.counts.items()]
        return [f"left out: {'; '.join(said)}"] if said else []


@dataclass(frozen=True)
class ClassFolder:
    """A folder of documents. name: of the class; split: None where the tree has none; path: relative to the root."""

    name: str
    split: str | None
    path: str


@contextlib.contextmanager
def readable(name: object = None):
    """BadInput, naming the file (by default as the operating system does), where it can't be read."""
    try:
        yield
    except OSError as error:
        named = os.fsdecode(error.filename or "the corpus") if name is None else name
        raise BadInput(f"{shown(named)}: can't be read ({error.strerror})") from None


def bytes_path(root: str | os.PathLike, source: str = "") -> bytes:
    """The path of a source, as the bytes that the system knows it by."""
    return os.fsencode(root) + (b"/" + source.encode("utf-8", "surrogateescape") if source else b"")


def name_of(raw: bytes) -> str:
    """A name whose bytes are `raw`, the same in every locale."""
    return raw.decode("utf-8", "surrogateescape")


def entries_of(root: str | os.PathLike, folder: str = "") -> list[tuple[str, os.DirEntry]]:
    """(name, entry) of what stands in a folder, in the order of the names."""
    with os.scandir(bytes_path(root, folder)) as entries:
        return sorted(((name_of(e.name), e) for e in entries), key=lambda pair: pair[0])


def hidden(name: str) -> bool:
    """Whether a name is hidden, or what macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


def split_of(folder: str) -> str | None:
    """The split that a folder is named after, if it is: train, or what ends in it, as 20news-bydate-train."""
    return SPLIT_NAMES.get(re.split("[._-]", folder.lower())[-1])


def suffix_of(name: str) -> str:
    """ ".txt"; "" for none, and for what is none, as in sci.space or 51060."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix if 2 <= len(suffix) <= 6 and suffix[1:].isalnum() and not suffix[1:].isdigit() else ""


def is_text(path: bytes) -> bool:
    """Whether a file begins like text in any encoding: no control characters, unless a mark says UTF-16 or UTF-32."""
    try:
        with open(path, "rb") as file:
            head = file.read(SNIFFED)
    except OSError:
        return True  # it is named when it is read
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        return True
    return not head.startswith(b"%PDF") and not head.translate(None, bytes(range(7, 14)) + bytes(range(26, 256)))


def is_document(name: str, entry: os.DirEntry) -> bool:
    """Whether an entry may be a document; a broken link may, so that it is named and not passed over."""
    return not hidden(name) and (entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)))


def has_documents(root: str | os.PathLike, folder: str = "", *, below: bool = False) -> bool:
    """Whether text stands in a folder itself, or with `below` in any folder under it."""
    todo = [folder]
    while todo:
        here, looked = todo.pop(), 0
        for name, entry in entries_of(root, here):
            if is_document(name, entry) and looked < 2 * SAMPLES:
                looked += 1
                if suffix_of(name) == ".txt" or is_text(entry.path):
                    return True
            elif below and not hidden(name) and entry.is_dir(follow_symlinks=False):
                todo.append(os.path.join(here, name))
    return False


def subfolders(root: str | os.PathLike, folder: str = "") -> list[str]:
    """The names of the folders in a folder that are not hidden, nor links to where they stand in."""
    inside = os.path.realpath(bytes_path(root, folder)) + b"/"

    def leads_back(entry) -> bool:
        return entry.is_symlink() and inside.startswith(os.path.realpath(entry.path) + b"/")

    return [name for name, entry in entries_of(root, folder) if entry.is_dir() and not hidden(name) and not leads_back(entry)]


def class_folders(root: Path) -> list[ClassFolder]:
    """The class folders of a tree, in the order in which its documents are read; empty where there are none.

    Splits are folders named as splits, with train among them, above class folders (train/pos) or below (pos/train).
    """
    tops = subfolders(root)
    full = {name for name in tops if has_documents(root, name)}
    inside = {name: subfolders(root, name) for name in tops if name not in full or split_of(name)}
    splits = [n for n in inside if split_of(n) and _with_documents(root, n, inside[n])]
    others = {name for name in full if not split_of(name)}
    if any(split_of(n) == "train" for n in splits) and not (others and full & set(splits)):
        return [
            ClassFolder(name, split_of(split), f"{split}/{name}")
            for split in splits
            for name in _with_documents(root, split, inside[split])
            if name.lower() not in UNLABELLED
        ]
    if full:
        return [ClassFolder(name, None, name) for name in tops if name in full or has_documents(root, name, below=True)]
    below = [(n, s) for n in tops for s in _with_documents(root, n, inside[n])]
    if below and all(s.lower() in SPLIT_NAMES for _, s in below) and {SPLIT_NAMES[s.lower()] for _, s in below} > {"train"}:
        return [ClassFolder(name, SPLIT_NAMES[split.lower()], f"{name}/{split}") for name, split in below]
    return []


def _with_documents(root: Path, folder: str, names: list[str]) -> list[str]:
    return [name for name in names if has_documents(root, f"{folder}/{name}", below=True)]


def list_documents(root: Path, folders: list[ClassFolder]) -> tuple[list[list[str]], LeftOut]:
    """The sources in each class folder, subfolders included, in the order of their names; and what was left out.

    .txt is always a document, any other suffix or none where the files are text and that is no accident: one file in ten
    has it, or all files of a class.
    """
    left_out = LeftOut()
    found = [_below(root, folder.path, left_out) for folder in folders]
    kinds = [Counter(map(suffix_of, sources)) for sources in found]
    counts = sum(kinds, Counter())
    alone = {next(iter(kind)) for kind in kinds if len(kind) == 1}
    common = {suffix for suffix, n in counts.items() if suffix in alone or n >= COMMON * counts.total()}
    samples = {suffix: [s for sources in found for s in sources if suffix_of(s) == suffix][:SAMPLES] for suffix in common}
    wanted = {".txt"} | {s for s in common if all(is_text(bytes_path(root, one)) for one in samples[s])}
    for sources in found:
        for source in sources:
            if suffix_of(source) not in wanted:
                left_out.add("of another kind", source)
    _beside(root, folders, left_out)
    return [[s for s in sources if suffix_of(s) in wanted] for sources in found], left_out


def _below(root: Path, folder: str, left_out: LeftOut) -> list[str]:
    sources, todo = [], [folder]
    while todo:
        here = todo.pop()
        for name, entry in entries_of(root, here):
            source = f"{here}/{name}"
            if hidden(name):
                left_out.add("hidden", source)
            elif is_document(name, entry):
                sources.append(source)
            elif entry.is_dir(follow_symlinks=False):
                todo.append(source)
            else:
                left_out.add("not a regular file", source)
    return sorted(sources)


def _beside(root: Path, folders: list[ClassFolder], left_out: LeftOut) -> None:
    """Count what stands beside the class folders, and beside the folders above them."""
    used = {one.path for one in folders}
    above = sorted({path.rpartition("/")[0] for path in used})
    for folder in dict.fromkeys(["", *above]):
        for name, _ in entries_of(root, folder):
            path = f"{folder}/{name}" if folder else name
            if path not in used and path not in above and not hidden(name):
                left_out.add("beside the class folders", path)
