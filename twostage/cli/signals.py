"""Ctrl-C, SIGTERM and SIGHUP end a script alike: one line, what is done is kept, the usual exit status."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from twostage import ranks

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN = 0.05  # seconds after which a signal that came during an import is looked at once more
PATIENCE = 1.0  # seconds that an import may go on after a signal


class Interrupted(KeyboardInterrupt):
    """Stopped from outside; `status` is 128 + the signal's number, as a shell has it."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


_waiting: list[tuple[int, float]] = []  # signals that came during an import, and when


def listen() -> None:
    """From now on these signals raise Interrupted in the main thread. Those that the caller ignores (nohup) stay ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _heard)
    signal.signal(signal.SIGALRM, _heard)


def _heard(number: int, frame) -> None:
    """Raise, but not inside an import: torch's are half C++, where an exception is lost or ends the process."""
    if number != signal.SIGALRM:
        _waiting.append((number, time.monotonic()))
    if not _waiting:
        return
    first, since = _waiting[0]
    if not _importing(frame):
        _waiting.clear()
        if ranks.several():  # torchrun passes a terminal's Ctrl-C on: once is enough
            deafen()
        raise Interrupted(first)
    if time.monotonic() - since > PATIENCE:  # nothing is under way that a kill could harm: all of it is made for kills
        with contextlib.suppress(OSError):
            os.write(2, f"{Path(sys.argv[0]).name}: interrupted\n".encode())
        os._exit(128 + first)
    signal.setitimer(signal.ITIMER_REAL, AGAIN)


def _importing(frame) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def deafen() -> None:
    """The end is near: what comes now changes nothing."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stderr.flush()
