import re

from tests.conftest import read_json
from tests.report.made import make_run
from twostage.recipes import THUCNEWS_CLASSES
from twostage.report.tables import accuracy_table


def rows_of(table: str) -> dict[str, list[str]]:
    """Cells by the first of each row."""
    cells = [re.split(r"  +", line.strip()) for line in table.splitlines()[1:]]
    return {first: rest for first, *rest in cells}


def test_published_figures_keep_to_their_epochs_when_a_run_has_fewer(tmp_path):
    names = list(THUCNEWS_CLASSES)
    path = make_run(tmp_path, "B4C3", recipe="B4C3", encoder_lr=1e-5, names=names, epochs=(0.5, 0.6))
    rows = rows_of(accuracy_table([read_json(path / "run.json")]))
    assert rows["2"] == ["0.600", "0.953"] and rows["4"] == ["1.000"]  # of the four published epochs
    assert rows["optimizer steps"] == ["12"] and rows["best epoch"] == ["2"]
