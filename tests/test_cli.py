import argparse

import pytest

from tests.conftest import run_script
from twostage import cli

SCRIPTS = ["extract.py", "train_head.py", "finetune.py"]
MODULES = ["twostage.predict", "twostage.export", "twostage.report"]


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e9", "fast"])
def test_a_learning_rate_that_is_none_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="learning rate"):
        cli.learning_rate(text)


def test_a_learning_rate_is_read_to_the_bit():
    assert cli.learning_rate("1e-05") == 1e-5


@pytest.mark.parametrize("words", [[script] for script in SCRIPTS] + [["-m", module] for module in MODULES])
def test_help_answers_without_loading_torch(words):
    result = run_script("-X", "importtime", *words, "--help")
    assert result.returncode == 0
    assert "example" in result.stdout.lower()
    assert " torch\n" not in result.stderr and " transformers\n" not in result.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_flag_is_one_line_and_status_2(script):
    result = run_script(script, "--no-such-flag")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and result.stdout == ""


def test_a_closed_pipe_is_no_error():
    result = run_script("-c", "from twostage import cli; import sys, os; sys.stdout = open(os.pipe()[1], 'w')\n"
                        "def main(argv): raise BrokenPipeError\nsys.exit(cli.run(main))")  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")


def test_ctrl_c_ends_with_130_and_no_traceback():
    result = run_script("-c", "from twostage import cli; import sys\n"
                        "def main(argv): raise KeyboardInterrupt\nsys.exit(cli.run(main))")  # fmt: skip
    assert result.returncode == 130
    assert "Traceback" not in result.stderr
