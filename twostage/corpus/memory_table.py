"""Tables that the caller holds: data frames, datasets, columns, (texts, labels). Known by what they can do, never imported."""

from collections.abc import Mapping

from twostage.corpus.columnar import class_label_names
from twostage.corpus.folders import SPLIT_NAMES
from twostage.errors import BadInput, shown

BATCH = 1024  # rows taken at a time


class Held:
    """A table in memory: n rows, its columns by name; part(names, rows) gives their values, a list a column."""

    form, ids, guessed, header = "a table", False, True, False

    def __init__(self, name: str, n: int, columns: list[str], part, features: dict[str, list[str]], form: str):
        self.name, self.n, self.columns, self.part, self.features, self.form = name, n, columns, part, features, form

    def __len__(self) -> int:
        return self.n

    def read(self, names: list[str]):
        """Yield (row from 0, row from 0, 0, the values of these columns, None)."""
        for start in range(0, self.n, BATCH):
            columns = self.part(names, list(range(start, min(start + BATCH, self.n))))
            for row, values in enumerate(zip(*columns, strict=True), start):
                yield row, row, 0, list(values), None

    def rows(self, wanted: list[int], names: list[str]) -> list[list]:
        """The values of rows, in the order asked for."""
        return [list(values) for values in zip(*self.part(names, wanted), strict=True)]


def held(source) -> list[tuple[str | None, Held]]:
    """The tables that a source holds, (split or None, table) each. Raises BadInput for what is none."""
    if isinstance(source, Mapping) and source and all(hasattr(one, "__len__") and _names(one) for one in source.values()):
        parts = [(SPLIT_NAMES.get(str(key).strip().lower()), str(key), one) for key, one in source.items()]
        if not any(split == "train" for split, _, _ in parts):
            raise BadInput(
                f"{', '.join(shown(key) for _, key, _ in parts)}: none of these is called train; name one of them so"
            )
        parts.sort(key=lambda part: ("train", "val", "test", None).index(part[0]))
        return [(split, _table(one, key)) for split, key, one in parts if split]
    return [(None, _table(source, "rows"))]


def _table(source, name: str) -> Held:
    if isinstance(source, tuple) and len(source) == 2 and not any(isinstance(one, str) for one in source):
        texts, labels = map(_values, source)
        if len(texts) != len(labels):
            raise BadInput(f"{len(texts):,} texts but {len(labels):,} labels; give one label per text")
        return _of_columns(name, {"text": texts, "label": labels}, "texts and labels")
    if isinstance(source, Mapping):
        columns = {str(key): _values(one) for key, one in source.items()}
        if len({len(one) for one in columns.values()}) > 1:
            raise BadInput("the columns have different lengths; give one value per row")
        return _of_columns(name, columns, "columns")
    names = _names(source)
    if not names or not hasattr(source, "__len__"):
        raise BadInput(
            f"not a corpus but of type {type(source).__name__}; give a path, a data frame, a datasets.Dataset, or (texts, labels)"
        )
    if hasattr(source, "select_columns"):  # datasets.Dataset
        return _of_dataset(name, source)
    return _of_frame(name, source, names)


def _of_columns(name: str, columns: dict[str, list], form: str) -> Held:
    def part(names, rows):
        return [[columns[key][row] for row in rows] for key in names]

    return Held(name, len(next(iter(columns.values()))), list(columns), part, {}, form)


def _of_dataset(name: str, source) -> Held:
    features = getattr(source, "features", None)
    known = class_label_names(features.to_dict()) if hasattr(features, "to_dict") else {}

    def part(names, rows):
        taken = source.select_columns(list(dict.fromkeys(names))).with_format(None)[rows]
        return [taken[key] for key in names]

    return Held(name, len(source), list(source.column_names), part, known, "a dataset")


def _of_frame(name: str, source, names: list) -> Held:
    original = {str(key): key for key in names}
    if len(original) != len(names):
        raise BadInput(f"two columns have one name among {', '.join(shown(key) for key in names)}; rename one")

    def part(names, rows):
        taken = []
        for key in names:
            column = source[original[key]]
            if hasattr(column, "iloc"):
                taken.append(column.iloc[rows].tolist())
            elif hasattr(column, "take"):
                taken.append(column.take(rows).to_pylist())
            else:
                taken.append(column[rows].to_list())
        return taken

    return Held(name, len(source), list(original), part, {}, "a data frame")


def _names(source) -> list | None:
    """The column names of a frame, a dataset or an Arrow table; None where there are none."""
    names = getattr(source, "column_names", None)
    names = getattr(source, "columns", None) if names is None else names
    return None if names is None or callable(names) or isinstance(names, Mapping) else list(names)


def _values(column) -> list:
    for way in ("tolist", "to_list", "to_pylist"):
        if hasattr(column, way):
            return getattr(column, way)()
    try:
        return column if isinstance(column, list) else list(column)
    except TypeError:
        raise BadInput(f"not a column of values but of type {type(column).__name__}; give lists") from None
