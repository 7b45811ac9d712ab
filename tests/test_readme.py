"""The commands that README.md and the other pages show must at least be commands that the scripts take."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "README.zh-CN.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "cache" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
COMMAND = re.compile(
    r"^ *(?:\$ )?python (?:(extract|train_head|finetune)\.py|-m twostage\.(predict|export|report|baseline))\b(.*)$", re.M
)


def commands():
    for page in PAGES:
        for block in re.findall(r"^ *```[a-z]*\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.M | re.S):
            block = block.replace("\\\n", " ")
            for script, module, words in COMMAND.findall(block):
                yield (script or f"twostage.{module}", words.split("#")[0].split("<")[0].split(">")[0].split("|")[0].strip())


@pytest.mark.parametrize(("module", "words"), sorted(set(commands())))
def test_a_command_shown_in_a_page_is_taken_by_its_script(module, words):
    if module == "twostage.report":
        module = "twostage.report.__main__"
    options = importlib.import_module(module).build_parser().parse_args(shlex.split(words))
    assert vars(options)


def test_the_pages_show_every_script():
    shown = {module for module, _ in commands()}
    assert shown >= {"extract", "train_head", "finetune", "twostage.predict", "twostage.export", "twostage.report"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_that_a_page_links_to_exists(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_make_target_shown_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    shown = set(re.findall(r"^\$? ?make ([a-z]+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M))
    assert {"demo", "test"} <= shown <= targets
