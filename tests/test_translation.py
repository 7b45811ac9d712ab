"""README.zh-CN.md says what README.md says: section by section, the same code to the byte, and nothing that was changed since."""

import hashlib
import re

import pytest

from tests.conftest import ROOT

ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
OWN = "给中文用户"  # the one section that only Chinese readers need
FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def sections(page: str) -> list[tuple[str, str]]:
    """(heading, text) of each section, code and all; what stands before the first heading of level 2 is the first."""
    parts = re.split(r"^## ", page, flags=re.M)
    return [("", parts[0]), *((part.split("\n", 1)[0], part.split("\n", 1)[1]) for part in parts[1:])]


def digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()[:8]


THEIRS = [(heading, text) for heading, text in sections(CHINESE) if heading != OWN]
PAIRS = list(zip(sections(ENGLISH), THEIRS, strict=False))


def test_the_sections_stand_one_to_one():
    assert len(sections(ENGLISH)) == len(THEIRS)
    assert len(sections(CHINESE)) == len(THEIRS) + 1, f"the section {OWN} is missing"


@pytest.mark.parametrize("pair", PAIRS, ids=[english[0] or "top" for english, _ in PAIRS])
def test_code_is_the_same_to_the_byte(pair):
    (_, english), (_, chinese) = pair
    assert FENCE.findall(english) == FENCE.findall(chinese)


@pytest.mark.parametrize("pair", PAIRS, ids=[english[0] or "top" for english, _ in PAIRS])
def test_no_english_section_changed_after_its_translation(pair):
    (heading, english), (_, chinese) = pair
    told = re.search(r"<!-- en:([0-9a-f]{8}) -->", chinese)
    now = digest(english)
    assert told and told[1] == now, (
        f"translate the section {heading or 'at the top'!r} anew, then write <!-- en:{now} --> in it"
    )


@pytest.mark.parametrize("pair", PAIRS, ids=[english[0] or "top" for english, _ in PAIRS])
def test_figures_are_the_same(pair):
    (_, english), (_, chinese) = pair
    numbers = [
        re.findall(r"(?<![\w.-])0?\.\d{2,}|\d+\.\d+x|\d{1,3}(?:,\d{3})+", FENCE.sub("", text)) for text in (english, chinese)
    ]
    assert sorted(numbers[0]) == sorted(numbers[1])
