"""Standard streams that cannot surprise: missing ones are replaced, broken ones are remembered, and nothing that a corpus,
a file name or a run holds reaches a terminal as a command to it."""

import contextlib
import os
import re
import sys

# What a terminal obeys: control characters but newline and tab, and the marks that turn the direction of text around.
COMMANDS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff]")


class Output:
    """A text stream whose every line is harmless, and whose loss is remembered in `lost` and never raised."""

    def __init__(self, stream):
        self.stream, self.lost = stream, None

    def write(self, text: str) -> int:
        if self.lost is None:
            try:
                self.stream.write(COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text))
            except OSError as error:
                self.lost = error
        return len(text)

    def flush(self) -> None:
        if self.lost is None:
            try:
                self.stream.flush()
            except OSError as error:
                self.lost = error

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


def open_streams(silent: bool = False) -> Output:
    """Make the standard streams usable whatever they were started as, and return standard output; `silent` prints nothing."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        with contextlib.suppress(OSError, ValueError):
            os.fstat(number)
            if getattr(sys, name) is not None:
                continue
        # Closed: a file opened later must not take its number, and be written to by whoever prints.
        while (opened := os.open(os.devnull, os.O_RDWR)) < number:
            pass
        setattr(sys, name, os.fdopen(opened, "w" if number else "r", encoding="utf-8", closefd=False))
    # UTF-8 whatever the locale. A path on standard output is the very bytes that it is on the disk.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    if not isinstance(sys.stdout, Output):
        sys.stdout, sys.stderr = Output(sys.stdout), Output(sys.stderr)
    if silent:
        sys.stdout = Output(open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    return sys.stdout


def reader_is_gone() -> bool:
    """Whether nobody reads standard output any more: a filter may stop then, and work that leaves files goes on."""
    return isinstance(getattr(sys.stdout, "lost", None), BrokenPipeError)


def let_go(output: Output) -> None:
    """Point a broken stream nowhere, so that the interpreter's last flush does not complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.stream.fileno())
