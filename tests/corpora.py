"""Corpora written by hand, for tests of what reads them."""

from pathlib import Path

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
