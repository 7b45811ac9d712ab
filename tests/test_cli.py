import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, expect_refusal, run_script
from twostage import cli

SCRIPTS = ["extract.py", "train_head.py", "finetune.py"]
MODULES = ["twostage.predict", "twostage.export", "twostage.report", "twostage.baseline"]


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


PRINTING = """
import pathlib, sys
from twostage import cli
from twostage.progress import say
def main(argv):
    say("begun")
    for number in range(20_000):
        print("line", number)
    say("done")
    pathlib.Path(sys.argv[1]).write_text("done")
sys.exit(cli.run(main))
"""


def shell(command: str, *words, **env) -> subprocess.CompletedProcess:
    """Run a shell command in which $0 is this Python, $1 the program PRINTING and $2 ... the words."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}", sys.executable, PRINTING, *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, env=os.environ | env,
    )  # fmt: skip


@pytest.mark.parametrize("streams", ["| head -n 1", "2> >(true)", ">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_work_is_done_to_its_end_whatever_became_of_the_streams(streams, tmp_path):
    result = shell(f'"$0" -c "$1" "$2" {streams}', tmp_path / "file")
    assert result.returncode == 0 and "Traceback" not in result.stderr
    assert (tmp_path / "file").read_text() == "done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here to write to")
def test_results_that_cannot_be_written_are_no_success(tmp_path):
    result = shell('"$0" -c "$1" "$2" > /dev/full', tmp_path / "file")
    assert result.returncode == 2 and "standard output (No space left on device)" in result.stderr
    assert (tmp_path / "file").read_text() == "done" and "Traceback" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("doing", ["import slow", "import time; time.sleep(60)"])
def test_a_signal_ends_in_one_line_and_its_own_status_also_inside_an_import(number, doing, tmp_path):
    (tmp_path / "slow.py").write_text("import time\nfor _ in range(600): time.sleep(0.1)\n")
    code = f"import sys; from twostage import cli\ndef main(argv):\n print('go', flush=True); {doing}\nsys.exit(cli.run(main))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "go\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert said == "-c: interrupted\n"


def test_a_signal_that_the_caller_ignores_stays_ignored():
    code = "import os, signal, sys; from twostage import cli\ndef main(argv): os.kill(os.getpid(), signal.SIGHUP)\nsys.exit(cli.run(main))"
    result = subprocess.run(["nohup", sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60)
    assert result.returncode == 0


def test_nothing_that_a_name_holds_commands_the_terminal():
    code = (
        "import sys; from twostage import cli; from twostage.progress import say; from twostage.errors import BadInput\n"
        "name = '\\x1b[2J\\x9b1m\\u202e体育\\r\\x07\\ud800'\n"
        "def main(argv): print(name); say(name); raise BadInput(name)\nsys.exit(cli.run(main))"
    )
    result = run_script("-c", code)
    assert result.returncode == 2 and "体育" in result.stdout and "体育" in result.stderr
    for said in (result.stdout, result.stderr):
        assert not set(said) & set("\x1b\x9b\u202e\r\x07"), said


def test_a_path_on_standard_output_is_the_bytes_that_it_has_on_the_disk(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xcc\xe5"
    code = "import os, sys; from twostage import cli\ndef main(argv): print(sys.argv[1])\nsys.exit(cli.run(main))"
    for locale in ({}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        result = subprocess.run(
            [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, timeout=60, env=os.environ | locale
        )
        assert result.stdout == path + b"\n"


def test_a_full_disk_that_nobody_foresaw_is_one_line():
    code = "import sys; from twostage import cli\ndef main(argv): raise OSError(28, 'disk is full', 'runs/x')\nsys.exit(cli.run(main))"
    expect_refusal(run_script("-c", code), "runs/x: disk is full")


@pytest.mark.parametrize("started", [("extract.py",), ("-m", "twostage.predict"), ("-m", "twostage.report", "--runs-dir")])
def test_a_refusal_begins_with_what_was_started(started, tmp_path):
    told = " ".join(started[:2]).removesuffix(" --runs-dir")
    run = run_script(*started, tmp_path / "nowhere")
    assert run.returncode == 2 and run.stderr.startswith(f"{'python ' if '-m' in started else ''}{told}: {tmp_path}"), (
        run.stderr
    )


def test_a_tilde_that_no_shell_has_replaced_is_the_home_folder(monkeypatch):
    import extract
    import finetune
    import train_head

    monkeypatch.setenv("HOME", "/home/somebody")
    for script, words in ((extract, ["~/news"]), (train_head, ["~/a.h5"]), (finetune, ["~/news", "--runs-dir=~/runs"])):
        args = vars(script.build_parser().parse_args([*words, "--cache-dir=~/x"]))
        assert str(args["cache_dir"]) == "/home/somebody/x"
        assert str(args.get("corpus", "/home/somebody/news")) == "/home/somebody/news"
        assert "~" not in str(args)
