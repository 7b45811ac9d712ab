"""Real processes that start at once: a server that has imported everything forks them. One server for all tests."""

import contextlib
import multiprocessing
from multiprocessing import forkserver

from tests.conftest import ROOT

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.preload"])


def process(target, *args):
    """A process that is to be started."""
    with contextlib.chdir(ROOT):  # from elsewhere the server would find nothing to import, and not say so
        forkserver.ensure_running()
    return CONTEXT.Process(target=target, args=args)


def use_the_server_that_forked_this() -> None:
    """In a process of the server: let what this process starts come out of it as well, and not out of one that imports anew.

    The standard library means it so, but asks here for the server's exit status, as its parent alone may."""
    forkserver._forkserver.ensure_running = lambda: None
