"""Who may import whom: one table, held against every import that the code has, those inside functions too."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# A room is a package or a module at the top of twostage/. Each line: the rooms of a floor, then what they may import.
# The ground, and the facts in twostage/__init__ (version, SPLITS), are open to all.
GROUND = {"errors", "progress", "memory", "files", "versions", "metrics", "recipes", "ranks"}
MAY_IMPORT = {
    "corpus": set(),
    "encoder": set(),
    "runs": set(),
    "cache": {"encoder.settings"},
    "models": {"encoder", "runs"},
    "extraction": {"corpus", "encoder", "cache"},
    "heads": {"cache", "models", "runs"},
    "finetuning": {"corpus", "encoder", "models", "runs"},
    "report": {"runs", "cache", "corpus"},
}
DOORS = {"__init__", "api", "cli", "demo", "predict", "export", "baseline", "report.__main__"}  # may import anything
SCRIPTS = {"extract.py", "train_head.py", "finetune.py"}
SCRIPTS_MAY_IMPORT = {"api", "cli", "report", "errors", "memory", "progress", "recipes", "versions"}


def imports(path: Path) -> set[str]:
    """The twostage modules that a file imports, as dotted names without "twostage."; "" for the package itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            if node.module and node.module.split(".")[0] == "twostage":
                inside = node.module.partition(".")[2]
                for alias in node.names:
                    whole = f"{inside}.{alias.name}".strip(".")
                    place = ROOT / "twostage" / whole.replace(".", "/")
                    found.add(whole if place.with_suffix(".py").exists() or place.is_dir() else inside)
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.split(".")[0] == "twostage"}
    return found


def room(path: Path) -> str:
    inside = path.relative_to(ROOT / "twostage").with_suffix("")
    return "report.__main__" if str(inside) == "report/__main__" else inside.parts[0]


MODULES = sorted((ROOT / "twostage").rglob("*.py"))


def allowed(owner: str, target: str) -> bool:
    first = target.split(".")[0]
    if not target or first == owner or owner in DOORS:
        return True
    rows = MAY_IMPORT.get(owner, set())
    return first in GROUND or first in rows or target in rows


def test_no_room_imports_what_the_table_does_not_allow():
    wrong = [
        f"{path.relative_to(ROOT)} imports twostage.{target}"
        for path in MODULES
        for target in sorted(imports(path))
        if not allowed(room(path), target)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_table_has_no_row_that_the_code_does_not_use():
    used = {(room(path), target) for path in MODULES for target in imports(path)}
    unused = [
        f"{owner} -> {target}"
        for owner, targets in MAY_IMPORT.items()
        for target in targets
        if not any(have == owner and (to == target or to.startswith(target + ".")) for have, to in used)
    ]
    assert not unused, unused


def test_every_room_has_its_place_in_the_table_and_there_are_at_most_24():
    rooms = {room(path) for path in MODULES} - {"report.__main__"}
    assert rooms <= GROUND | set(MAY_IMPORT) | DOORS
    assert len(rooms) <= 24, sorted(rooms)


def test_the_map_in_contributing_is_this_table():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Where things are")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in page.split("\n") if line.startswith("| ") and line[2].isdigit()]
    told = {names: set(re.findall(r"`([\w.]+)`", may)) for _, names, _, may in rows}
    for owner, may in MAY_IMPORT.items():
        assert told[f"`{owner}`"] == may, owner
    every = {name for names in told for name in re.findall(r"`(\w+)`", names)}
    assert every == {room(path) for path in MODULES} - {"report.__main__", "__init__"}


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_script_is_written_with_the_public_api(script):
    wrong = {target for target in imports(ROOT / script) if target and target.split(".")[0] not in SCRIPTS_MAY_IMPORT}
    assert not wrong


def test_no_two_classes_share_a_name():
    seen: dict[str, Path] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                assert node.name not in seen, f"class {node.name} in {path} and in {seen[node.name]}"
                seen[node.name] = path


@pytest.mark.parametrize("package", ["twostage.cache", "twostage.corpus"])
def test_the_cache_and_the_corpus_import_no_torch(package):
    code = (
        f"import sys, pkgutil, importlib, {package} as p\n"
        "[importlib.import_module(f'{p.__name__}.{m.name}') for m in pkgutil.iter_modules(p.__path__)]\n"
        "sys.exit(' '.join({'torch', 'transformers', 'pandas', 'pyarrow', 'datasets'} & set(sys.modules)) or None)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
