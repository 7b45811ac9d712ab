"""make gpu, walked on a CPU: each part writes its own section, whatever stood there."""

from tests.conftest import run_script


def test_a_part_writes_its_section_anew_and_leaves_the_others(tmp_path):
    page = tmp_path / "gpu-CPU.md"
    page.write_text(
        "# CPU\n\n## Part 2: before\n\nkept\n\n## Part 4: before\n\ngone\n\n## Part 5: after\n\nkept too\n", encoding="utf-8"
    )
    words = ["benchmarks/gpu.py", "--part", 4, "--device", "cpu", "--tiny", "--out", tmp_path]
    result = run_script(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    text = page.read_text(encoding="utf-8")
    assert [line for line in text.split("\n") if line.startswith("#")] == [
        "# CPU", "## Part 2: before", "## Part 4: heads", "## Part 5: after"
    ]  # fmt: skip
    assert "gone" not in text
    assert "kept too" in text
    assert text.count("`python benchmarks/heads.py --device cpu") == 2
    assert "ours, one bank, float16 vectors" in text
    assert "commit " in text


def test_every_part_names_options_that_its_scripts_have():
    from benchmarks.gpu import steps

    wanted: dict[str, set[str]] = {}
    for part in range(1, 7):
        for device, cards in (("cpu", 0), ("cuda", 2)):
            for script, *words in steps(part, device, device == "cpu", cards):
                wanted.setdefault(script, set()).update(word for word in words if word.startswith("--"))
    del wanted["-m"]  # pytest
    for script, words in wanted.items():
        known = run_script(script, "--help").stdout
        assert not {word for word in words if word not in known}, script
