"""Real processes that start at once: a server that has imported everything forks them. One server for all tests."""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.preload"])
