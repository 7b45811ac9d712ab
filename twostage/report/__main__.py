"""Rewrite runs/report.html and runs/results.csv from the run folders.

python -m twostage.report
python -m twostage.report --runs-dir runs --markdown > tables.md
"""

import sys

from twostage.cli import Parser, add_shared, run
from twostage.report.build import existing, write_report
from twostage.report.markdown import markdown
from twostage.runs.groups import group_runs
from twostage.runs.views import load_runs


def build_parser() -> Parser:
    parser = Parser(
        prog="python -m twostage.report",
        description="Rewrite report.html and results.csv from the run folders. Training does this automatically after every run.",
        epilog="examples:\n  python -m twostage.report\n  python -m twostage.report --runs-dir runs --markdown > tables.md",
    )
    add_shared(parser, "--runs-dir")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown instead, for a paper or a README")
    return parser


def main(argv=None) -> int:
    args = build_parser().parse_args(argv)
    if args.markdown:
        print(markdown(group_runs(load_runs(existing(args.runs_dir))[0])), end="")
    else:
        print(write_report(args.runs_dir))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
