"""A cache whose vectors are not those of the model is never published."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import expect_refusal, make_bert, make_tree, run_script


@pytest.fixture(scope="module")
def coarse(tmp_path_factory) -> Path:
    """A BERT that bfloat16 can't compute: scores in the thousands, so that a rounded query looks at another token."""
    folder = make_bert(tmp_path_factory.mktemp("model") / "coarse")
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if name.endswith(("query.weight", "key.weight")):
            weight *= 1000
        if name.endswith(("value.weight", "attention.output.dense.weight")):
            weight *= 20
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_vectors_beyond_the_certificates_bound_are_never_published(coarse, tmp_path):
    tree, cache = make_tree(tmp_path / "news", per_class=20), tmp_path / "cache"
    argv = ["extract.py", tree, "--model", coarse, "--max-length", "64", "--device", "cpu", "--cache-dir", cache]
    line = expect_refusal(
        run_script(*argv, "--dtype", "bfloat16"), "certificate:", "bfloat16: no cache was written; give --dtype float32"
    )
    assert "0.05" in line
    assert not [path for path in cache.iterdir() if path.suffix in (".h5", ".partial")]
    exact = run_script(*argv, "--dtype", "float32")
    assert exact.returncode == 0, exact.stderr
    facts = json.loads(Path(exact.stdout.strip() + ".json").read_text(encoding="utf-8"))["certificate"]
    assert 0 < facts["largest_relative_error"] < facts["bound"] == 2e-3
