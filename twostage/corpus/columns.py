"""Which column is the text, which the label, which the split: by name, guessed only where one reading is plain."""

import re
from dataclasses import dataclass, field

from twostage.corpus.folders import SPLIT_NAMES
from twostage.errors import BadInput, shown

PLAIN_TEXT = ("text", "sentence")  # a column of this name is the text whatever stands beside it
TEXT = (
    "content", "document", "body", "title", "headline", "review", "article", "news", "comment", "tweet", "message", "query",
    "question", "utterance", "description", "abstract", "summary", "text_a", "sms", "文本", "内容", "正文", "标题", "新闻", "评论",
)  # fmt: skip
NAMED_LABEL = ("label_text", "label_desc", "label_des", "label_name", "class_name", "category_name")  # beside a number
PLAIN_LABEL = ("label",)
LABEL = ("category", "class", "labels", "target", "topic", "sentiment", "intent", "tag", "polarity", "标签", "类别", "分类")
ROW_NUMBER = ("id", "idx", "index", "qid", "guid", "uid", "")
TWICE = 'two columns are called "{}"; rename one'
HOW = {"text": "--text-column NAME", "label": "--label-column NAME", "split": "--split-column NAME"}
LISTED = 12  # columns in a message
HEADING = re.compile(r"[^\W\d][\w.-]{0,29}")  # what may be the name of a column


@dataclass(frozen=True)
class Asked:
    """The columns that the user named; empty or None: to be guessed."""

    text: tuple[str, ...] = ()
    label: str | None = None
    split: str | None = None

    @staticmethod
    def of(text: str | int | list | None, label: str | int | None, split: str | int | None) -> "Asked":
        """A data frame may have whole numbers for names."""
        texts = [] if text is None else [text] if isinstance(text, str | int) else text
        return Asked(tuple(map(str, texts)), *(name if name is None else str(name) for name in (label, split)))

    @property
    def names(self) -> list[str]:
        return [*self.text, *(name for name in (self.label, self.split) if name is not None)]

    @property
    def numbers(self) -> bool:
        """Whether columns were asked for, and by their numbers alone."""
        return bool(self.names) and all(name.isascii() and name.isdigit() for name in self.names)

    def settings(self) -> dict:
        """As arguments of read_corpus, only what was named."""
        named = {"text": list(self.text), "label": self.label, "split": self.split}
        return {key: value for key, value in named.items() if value}


def fold(name: str) -> str:
    return name.replace("\ufeff", "").strip().casefold()


def is_header(cells: list[str], asked: Asked) -> bool:
    """Whether these are names of columns: all that the user named, or else a text beside a label or a row's number."""
    folded = [fold(cell) for cell in cells]
    if asked.names and (not asked.numbers or all(name in folded for name in asked.names)):
        return all(fold(name) in folded for name in asked.names)
    has_text = any(name in PLAIN_TEXT + TEXT for name in folded)
    return has_text and any(name in NAMED_LABEL + PLAIN_LABEL + LABEL + ROW_NUMBER for name in folded)


@dataclass(frozen=True)
class Columns:
    """The columns chosen of one table. names: of the classes by number, where `names_from` gives them."""

    text: tuple[str, ...]
    label: str
    split: str | None = None
    names: list[str] | None = None
    names_from: str = "class.txt"
    guessed: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        return [*self.text, self.label, *([self.split] if self.split else [])]

    def said(self) -> str:
        """'text from "content", label from "category"', of what was guessed."""
        return ", ".join(self.guessed)

    def take(self, values: list, where: str) -> tuple[str | None, str | None, str | None]:
        """A row's values, in the order of `all` -> (text or None where it has none, class or None, split or None)."""
        n = len(self.text)
        text = self.text_from(values, where)
        if text is None or not text.strip():
            return None, None, None
        split = self._split(values[n + 1], where) if self.split else None
        return text, self.class_of(values[n], where), split

    def text_from(self, values: list, where: str) -> str | None:
        """The text of a row; several columns are joined with a newline, without those that are empty."""
        if len(self.text) == 1:
            return text_of(values[0], where)
        texts = [text_of(value, where) for value in values[: len(self.text)]]
        return "\n".join(text for text in texts if text and text.strip())

    def class_of(self, value, where: str) -> str | None:
        """The name of a label, None where there is none."""
        if self.names is None:
            return label_of(value, where)
        if value == -1:  # the datasets library's "no label"
            return None
        label = label_of(value, where)
        if label is None or (label.isascii() and label.isdigit() and len(label) < 10):
            if label is not None and int(label) >= len(self.names):
                last = len(self.names) - 1
                raise BadInput(f"{where}: label id {label}, but {self.names_from} names only 0 to {last}; complete it")
            return None if label is None else self.names[int(label)]
        if label in self.names:
            return label
        raise BadInput(f"{where}: '{shown(label[:40])}' is neither a label id nor a class that {self.names_from} names")

    def _split(self, value, where: str) -> str:
        name = SPLIT_NAMES.get(fold(value)) if isinstance(value, str) else None
        if name is None:
            raise BadInput(f'{where}: "{shown(str(value)[:40])}" in column "{self.split}" is not train, val or test')
        return name


def text_of(value, where: str) -> str | None:
    if isinstance(value, str):
        return value
    if missing(value):
        return None
    raise BadInput(f"{where}: not a text but {_kind(value)}; name the column of the texts: --text-column NAME")


def label_of(value, where: str) -> str | None:
    """The name of a class: text without white space around it, a whole number (also 1.0), True or False."""
    if isinstance(value, str):
        return value.replace("\ufeff", "").strip() or None  # the mark of a file that was appended to another
    if missing(value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float):
        return str(value)
    raise BadInput(f"{where}: not a label but {_kind(value)}; a document has one class, by name or number")


def missing(value) -> bool:
    """None, NaN, pandas's NA and NaT."""
    return value is None or (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType")


def _kind(value) -> str:
    known = {dict: "an object", list: "a list", bytes: "bytes", int: "a number", float: "a number"}
    return known.get(type(value), f"of type {type(value).__name__}")


def choose(columns: list[str], asked: Asked, where: str) -> Columns | None:
    """Choose among the columns of a table; None where none is the label. Raises BadInput where it isn't plain."""
    by_fold: dict[str, list[str]] = {}
    for column in columns:
        by_fold.setdefault(fold(column), []).append(column)

    def find(name: str) -> str:
        if columns.count(name) == 1:
            return name
        found = by_fold.get(fold(name), [])
        if len(found) != 1 and name.isascii() and name.isdigit() and 0 < int(name) <= len(columns):
            found = [one for one in columns if one == columns[int(name) - 1]]
        if len(found) != 1:
            what = f'no column "{shown(name)}"; {listed(columns)}' if not found else TWICE.format(shown(found[0]))
            raise BadInput(f"{where}: {what}")
        return found[0]

    def guess(what: str, *ranks: tuple[str, ...]) -> str | None:
        for rank in ranks:
            found = sorted((column for name in rank for column in by_fold.get(name, [])), key=columns.index)
            if len(found) > len(set(found)):
                raise BadInput(f"{where}: {TWICE.format(shown(found[0]))}")
            if len(found) > 1:
                some = " or ".join(f'"{shown(name)}"' for name in found)
                both = f"; {' '.join(map(shown, found))} joins them" if what == "text" and len(found) == 2 else ""
                raise BadInput(f"{where}: the {what} may be {some}; say which: {HOW[what]}{both}")
            if found:
                said.append(f'{what} from "{shown(found[0])}"')
                return found[0]
        return None

    said: list[str] = []
    text = tuple(map(find, asked.text)) or (guess("text", PLAIN_TEXT, TEXT),)
    if text[0] is None:
        raise BadInput(f"{where}: no column is plainly the text: {HOW['text']} {HOW['label']}; {listed(columns)}")
    label = find(asked.label) if asked.label else guess("label", *((n,) for n in NAMED_LABEL), PLAIN_LABEL, LABEL)
    if label is None:
        return None
    split = find(asked.split) if asked.split else None
    twice = {name for name in (*text, label) if (*text, label).count(name) > 1}
    if twice:
        raise BadInput(f'{where}: column "{shown(twice.pop())}" can\'t be both text and label; {listed(columns)}')
    return Columns(text, label, split, guessed=said)


def no_label(columns: list[str], where: str) -> BadInput:
    return BadInput(f"{where}: no column is plainly the label: {HOW['label']}; {listed(columns)}")


def listed(columns: list[str]) -> str:
    """The columns there are, for a message; where they look like no names, how to do without."""
    names = ", ".join(f'"{shown(name[:40])}"' for name in columns[:LISTED] if not name.startswith("__index_level_"))
    named = all(not name or HEADING.fullmatch(name.strip().replace(" ", "_")) for name in columns)
    more = " …" if len(columns) > LISTED else ""
    return f"the columns are {names}{more}{'' if named else '; if that is no header, give their numbers: 1, 2'}"


def numbers_without_fraction(names: list[str]) -> list[str]:
    """Class names of a column that holds nothing but numbers: 1.0 is 1, as pandas writes whole numbers beside gaps."""
    if names and all(re.fullmatch(r"[-+]?\d+(\.\d+)?", name) for name in names):
        return [re.sub(r"\.0+$", "", name) for name in names]
    return names
