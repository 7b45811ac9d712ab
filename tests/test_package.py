"""What is installed: a wheel that brings the library, its templates and its types, and nothing else."""

import ast
import subprocess
import sys
import tomllib
import zipfile

import pytest

import twostage
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools", "77", reason="building a wheel needs setuptools 77 in this environment")
    out, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
    for name in filter(lambda n: n.startswith("twostage/") or n in {"pyproject.toml", "README.md", "LICENSE"}, names):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", out, source],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(out.glob("*.whl"))) as file:
        yield {name: file.read(name) for name in file.namelist()}


def test_the_wheel_holds_the_library_with_its_templates_schema_and_types(wheel):
    ours = {str(p.relative_to(ROOT)) for p in (ROOT / "twostage").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert ours <= set(wheel)
    assert {"twostage/py.typed", "twostage/report/style.css", "twostage/report/page.html.j2"} <= set(wheel)
    assert {name.split("/")[0] for name in wheel} == {"twostage", f"twostage-{twostage.__version__}.dist-info"}


def test_the_wheel_says_its_licence_and_its_version(wheel):
    metadata = next(value for name, value in wheel.items() if name.endswith("/METADATA")).decode()
    assert "License-Expression: MIT" in metadata and f"Version: {twostage.__version__}" in metadata


def test_everything_that_the_library_imports_is_declared():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    every = [*declared["dependencies"], *(one for extra in declared["optional-dependencies"].values() for one in extra)]
    names = {line.split(">")[0].split("=")[0].split("[")[0].strip().lower().replace("-", "_") for line in every}
    names |= {"sklearn"} if "scikit_learn" in names else set()
    imported = set()
    for path in (ROOT / "twostage").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    missing = imported - set(sys.stdlib_module_names) - names - {"twostage"}
    assert not missing, f"imported and not declared in pyproject.toml: {sorted(missing)}"
