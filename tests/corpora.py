"""Corpora written by hand, for tests of what reads them."""

import json
from pathlib import Path

import pytest

from twostage import SPLITS
from twostage.corpus.reader import read_corpus
from twostage.errors import BadInput

WORDS = ("甲乙丙丁", "天地玄黄", "宇宙洪荒", "日月盈昃", "寒来暑往")


def write_lines(file: Path, lines: list[str], end: str = "\n", encoding: str = "utf-8") -> Path:
    """Write lines, each closed by `end`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("".join(line + end for line in lines).encode(encoding))
    return file


def numbered(label: str, n: int = 40, pattern: str = "{label}\t{label} 新闻 {i}") -> list[str]:
    """n lines of one class, no two alike."""
    return [pattern.format(label=label, i=i) for i in range(n)]


def write_tree(folder: Path, texts: dict[str, str | bytes]) -> Path:
    """Write documents by their source: {"体育/1.txt": text}."""
    for source, text in texts.items():
        file = folder / source
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def small_tree(folder: Path, classes=("体育", "财经"), n: int = 40, **more: str | bytes) -> Path:
    """A tree of n documents a class, no two alike."""
    texts = {f"{name}/{i}.txt": f"{WORDS[i % 5]}，{name} {i}\n　　正文。" for name in classes for i in range(n)}
    return write_tree(folder, texts | more)


TNEWS = [("100", "news_story"), ("101", "news_culture"), ("109", "news_tech")]


def titles(folder, *, ids=range(3), n=40, names=("finance", "realty", "stocks"), files=("train.txt", "dev.txt", "test.txt")):
    """text<TAB>id files with a class.txt that ends without a newline, as the real one does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "class.txt").write_bytes("\n".join(names).encode())
    for file in files:
        write_lines(folder / file, [f"{file} 标题 {i} 之 {c}\t{c}" for i in range(n) for c in ids])
    return folder


def cnews(folder, files=("cnews.train.txt", "cnews.val.txt", "cnews.test.txt"), n=40):
    for file in files:
        write_lines(folder / file, [f"{c}\t{file} 正文 {i} {c}" for i in range(n) for c in ("体育", "财经")])
    return folder


def tnews(folder, files=("train.json", "dev.json"), n=40):
    for file in files:
        items = [
            {"label": number, "label_des": name, "sentence": f"{file} 标题 {i}", "keywords": ""}
            for i in range(n)
            for number, name in TNEWS
        ]
        write_lines(folder / file, [json.dumps(item, ensure_ascii=i % 2 == 0) for i, item in enumerate(items)])
    return folder


def refusal(path, **options) -> str:
    """Return the one line with which a corpus is refused."""
    with pytest.raises(BadInput) as caught:
        read_corpus(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def documents(corpus):
    """{source: (label name, split name, text)}"""
    texts = corpus.texts(range(len(corpus)))
    names = [corpus.label_names[i] for i in corpus.label]
    splits = [SPLITS[i] for i in corpus.split]
    return {s: rest for s, *rest in zip(corpus.sources, names, splits, texts, strict=True)}


def said(corpus) -> str:
    return "\n".join(corpus.describe())
