"""Damage to what is on disk: flipped bits, truncations, pages that were moved or come from elsewhere."""

import os
import random
import resource
import shutil

from twostage.cache.format import PAGE_ROWS
from twostage.cache.validation import open_safely
from twostage.cache.writer import CacheWriter
from twostage.errors import BadInput

from .stage import WINDOW, N, Stage, extract, in_child, make_identity, make_vectors, token_counts
from .table import Row

BATCH = 200


def regions(stage: Stage) -> dict[str, list[int]]:
    """The byte offsets of each dataset, and of the structure between them."""
    file, _ = open_safely(stage.path)
    file.close()
    free = set(range(len(stage.reference)))
    found = {}
    for name, table in file.tables.items():
        found[name] = list(range(table.offset, table.offset + table.nbytes))
        free -= set(found[name])
    return {**found, "structure": sorted(free)}


def flips(stage: Stage, row: Row, share: float = 1) -> None:
    """Every bit of the structure, and a sample of every dataset: read right, or refused."""
    place_finished(stage)
    chance = random.Random(2)
    bits = []
    for name, offsets in regions(stage).items():
        every = [(at, bit) for at in offsets for bit in range(8)]
        count = len(every) if name == "structure" else min(len(every), 500)
        bits += chance.sample(every, max(min(len(every), 40), round(count * share)))
    for at in range(0, len(bits), BATCH):
        flip_batch(stage, row, bits[at : at + BATCH])


def flip_batch(stage: Stage, row: Row, bits: list[tuple[int, int]]) -> None:
    verdicts = in_child(lambda: in_little_memory(lambda: [read_flipped(stage, *one) for one in bits]))
    if isinstance(verdicts, str):  # the process died: one by one
        if len(bits) == 1:
            row.add(verdicts, f"bit {bits[0]}")
            return
        place_finished(stage)
        for one in bits:
            flip_batch(stage, row, [one])
        return
    for one, verdict in zip(bits, verdicts, strict=True):
        row.add("ok" if verdict == "right" or verdict.startswith("refused") else verdict, f"bit {one}")


def in_little_memory(work):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = work()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    return answer if grown < 100_000 else f"took {grown:,} KiB"


def read_flipped(stage: Stage, at: int, bit: int) -> str:
    byte = stage.reference[at]
    with open(stage.path, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), at)
        try:
            return stage.read_verdict().split(":")[0]
        except Exception as error:
            return f"raised {type(error).__name__}: {error}"[:200]
        finally:
            os.pwrite(file.fileno(), bytes([byte]), at)


def place_finished(stage: Stage) -> None:
    stage.reset()
    stage.path.write_bytes(stage.reference)


def truncations(stage: Stage, row: Row, share: float = 1) -> None:
    """A finished file and an unfinished one, cut at the boundaries of every dataset and just beside them."""
    place_finished(stage)
    cuts = {0, 1, len(stage.reference) - 1}
    for offsets in regions(stage).values():
        cuts |= {max(0, edge + by) for edge in (offsets[0], offsets[-1]) for by in (-1, 0, 1)}
    for cut in sorted(cuts - {len(stage.reference)}):
        place_finished(stage)
        os.truncate(stage.path, cut)
        verdict = in_child(stage.read_verdict)
        row.add("ok" if verdict.startswith("refused") else verdict, f"finished, cut to {cut}")
        os.rename(stage.path, stage.partial)
        verdict = in_child(lambda: resume_verdict(stage))
        row.add("ok" if verdict.startswith("refused") else verdict, f"unfinished, cut to {cut}")


def resume_verdict(stage: Stage) -> str:
    """A rerun on a damaged unfinished file must end in the right bytes or refuse."""
    try:
        extract(stage.path, stage.identity)
    except BadInput as refused:
        return f"refused: {refused}"
    return "right" if stage.path.read_bytes() == stage.reference else "wrong bytes after the rerun"


def moved_pages(stage: Stage, row: Row, share: float = 1) -> None:
    """Pages swapped with their digests, pages of another cache, and flipped bits in an unfinished file."""
    place_finished(stage)
    file, _ = open_safely(stage.path)
    file.close()
    tables = file.tables
    full_pages = N // PAGE_ROWS
    for one in range(full_pages):
        for other in range(one):
            moved = bytearray(stage.reference)
            for name in ("vectors", "vectors_digest", "facts_digest", "token_count", "truncated"):
                rows = PAGE_ROWS if not name.endswith("digest") else 1
                size, offset = rows * tables[name].row_bytes, tables[name].offset
                a, b = (slice(offset + page * size, offset + (page + 1) * size) for page in (one, other))
                moved[a], moved[b] = moved[b], moved[a]
            check_moved(stage, row, bytes(moved), f"pages {one} and {other} swapped")
    shutil.rmtree(stage.root / "other", ignore_errors=True)
    foreign_path = stage.root / "other" / stage.path.name
    extract(foreign_path, make_identity(max_length=32))
    foreign = foreign_path.read_bytes()
    for page in range(full_pages):
        mixed = bytearray(stage.reference)
        for name in ("vectors", "vectors_digest", "facts_digest"):
            rows = PAGE_ROWS if name == "vectors" else 1
            size, offset = rows * tables[name].row_bytes, tables[name].offset
            own = slice(offset + page * size, offset + (page + 1) * size)
            mixed[own] = foreign[own]
        check_moved(stage, row, bytes(mixed), f"page {page} of another cache")
    unfinished_flips(stage, row, round(200 * share))


def check_moved(stage: Stage, row: Row, data: bytes, where: str) -> None:
    stage.reset()
    stage.path.write_bytes(data)
    verdict = in_child(stage.read_verdict)
    row.add("ok" if verdict.startswith("refused") else verdict, where)
    os.rename(stage.path, stage.partial)
    verdict = in_child(lambda: resume_verdict(stage))
    row.add("ok" if verdict == "right" or verdict.startswith("refused") else verdict, f"unfinished, {where}")


def unfinished_flips(stage: Stage, row: Row, count: int) -> None:
    stage.reset()
    vectors, counts = make_vectors(stage.identity), token_counts(stage.identity)
    with CacheWriter(stage.path, stage.identity) as writer:
        writer.commit(0, vectors[:WINDOW], counts[:WINDOW], counts[:WINDOW] > 99)
    whole = stage.partial.read_bytes()
    chance = random.Random(3)
    for _ in range(count):
        at = chance.randrange(len(whole))
        stage.reset()
        stage.partial.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
        verdict = in_child(lambda: resume_verdict(stage))
        row.add("ok" if verdict == "right" or verdict.startswith("refused") else verdict, f"unfinished, flip at {at}")
