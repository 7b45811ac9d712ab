"""Parquet and Arrow files, through pyarrow: rows in batches, and again by their place; texts are not kept."""

import bisect
import json
import threading
from collections import deque
from pathlib import Path

from twostage.errors import BadInput, shown

BATCH = 1024  # rows decoded at a time
RECENT = 32  # batches of a Parquet file that stay decoded
INDEX = "__index_level_"  # how pandas calls a nameless index


def arrow():
    """The module pyarrow. Raises BadInput with the pip line where it is missing."""
    try:
        import pyarrow
    except ImportError:
        raise BadInput("Parquet and Arrow need pyarrow: pip install 'twostage[data]'") from None
    return pyarrow


def class_names(metadata: dict | None) -> dict[str, list[str]]:
    """Column -> names of its classes by number, of the ClassLabel features that the datasets library keeps in a schema."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return class_label_names(features)


def class_label_names(features) -> dict[str, list[str]]:
    """The same out of the features of a dataset_info.json."""
    if not isinstance(features, dict):
        return {}
    named = {
        key: one.get("names") for key, one in features.items() if isinstance(one, dict) and one.get("_type") == "ClassLabel"
    }
    return {key: names for key, names in named.items() if isinstance(names, list) and all(isinstance(n, str) for n in names)}


def python_values(column, name: str) -> list:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        raise BadInput(f"{shown(name)}: damaged, or written wrongly: a string in it is not UTF-8; get it again") from None


class ParquetRows:
    """A Parquet file. Going on is cheap, going back begins its row group anew: rows are asked for in ascending order."""

    form = "Parquet rows"

    def __init__(self, file: Path, name: str):
        import pyarrow.parquet as parquet

        self.name, self.ids, self.guessed, self.header = name, False, True, False
        try:
            self.file = parquet.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        except (arrow().ArrowException, OSError) as error:
            raise BadInput(f"{shown(name)}: can't be read as Parquet ({shown(error)[:120]})") from None
        schema = self.file.schema_arrow
        self.columns = [column for column in schema.names if not column.startswith(INDEX)]
        self.features = class_names(schema.metadata)
        sizes = [self.file.metadata.row_group(i).num_rows for i in range(self.file.num_row_groups)]
        self.starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self.lock, self.cursor, self.group, self.next, self.names = threading.Lock(), None, 0, 0, None
        self.recent = deque(maxlen=RECENT)  # (first row, row after the last, columns of values)

    def __len__(self) -> int:
        return self.file.metadata.num_rows

    def read(self, names: list[str]):
        """Yield (row from 1, row from 0, 0, the values of these columns, None)."""
        row = 0
        for batch in self._batches(range(len(self.starts)), names):
            for values in zip(*(python_values(column, self.name) for column in batch.columns), strict=True):
                yield row + 1, row, 0, list(values), None
                row += 1

    def rows(self, wanted: list[int], names: list[str]) -> list[list]:
        """The values of rows, in the order asked for."""
        with self.lock:
            if names != self.names:
                self.cursor, self.names = None, names
                self.recent.clear()
            found = {row: self._row(row) for row in sorted(set(wanted))}
        return [found[row] for row in wanted]

    def _row(self, row: int) -> list:
        for first, stop, columns in reversed(self.recent):
            if first <= row < stop:
                return [column[row - first] for column in columns]
        group = bisect.bisect_right(self.starts, row) - 1
        if self.cursor is None or self.group != group or self.next > row:
            self.cursor, self.group, self.next = self._batches([group], self.names), group, self.starts[group]
        while True:
            batch = next(self.cursor)
            first, self.next = self.next, self.next + len(batch)
            if row < self.next:
                columns = [python_values(column, self.name) for column in batch.columns]
                self.recent.append((first, self.next, columns))
                return [column[row - first] for column in columns]

    def _batches(self, groups, names: list[str]):
        errors = (arrow().ArrowException, OSError)
        try:
            for batch in self.file.iter_batches(BATCH, row_groups=list(groups), columns=list(dict.fromkeys(names))):
                yield batch.select(names)
        except errors as error:
            raise BadInput(f"{shown(self.name)}: can't be read ({shown(error)[:120]})") from None


class ArrowRows:
    """An Arrow file or stream, as the datasets library saves them, mapped into memory."""

    form = "Arrow rows"

    def __init__(self, file: Path, name: str, features: dict[str, list[str]]):
        pyarrow = arrow()
        import pyarrow.ipc as ipc

        self.name, self.ids, self.guessed, self.header = name, False, True, False
        try:
            mapped = pyarrow.memory_map(str(file))
            opens = ipc.open_file if mapped.read(6) == b"ARROW1" else ipc.open_stream
            mapped.seek(0)
            self.table = opens(mapped).read_all()
        except (pyarrow.ArrowException, OSError) as error:
            raise BadInput(f"{shown(name)}: can't be read as Arrow ({shown(error)[:120]})") from None
        self.batches = self.table.to_batches()
        self.starts = [0]
        for batch in self.batches:
            self.starts.append(self.starts[-1] + len(batch))
        self.columns = [column for column in self.table.schema.names if not column.startswith(INDEX)]
        self.features = class_names(self.table.schema.metadata) or features

    def __len__(self) -> int:
        return len(self.table)

    def read(self, names: list[str]):
        """Yield (row from 1, row from 0, 0, the values of these columns, None)."""
        for start in range(0, len(self.table), BATCH):
            part = self.table.slice(start, BATCH).select(names)
            for row, values in enumerate(
                zip(*(python_values(column, self.name) for column in part.columns), strict=True), start
            ):
                yield row + 1, row, 0, list(values), None

    def rows(self, wanted: list[int], names: list[str]) -> list[list]:
        """The values of rows, in the order asked for."""
        found = []
        for row in wanted:
            at = bisect.bisect_right(self.starts, row) - 1
            one = self.batches[at].slice(row - self.starts[at], 1)
            found.append([python_values(one.column(name), self.name)[0] for name in names])
        return found
