"""Threads that share the parts of one piece of work."""

from queue import SimpleQueue
from threading import Thread

import torch


def at_work(threads: int) -> None:
    """How a thread that trains begins: so many threads in an operation, and denormal numbers count as 0. Both are a thread's own:
    what the main thread has set does not hold in a new one, whose products would then be cut otherwise and round otherwise."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


class Team:
    """The calling thread and `threads` - 1 helpers. Whoever is free takes the next part, so a thread that the system has put aside for
    another program's sake keeps the others waiting for the one part that it is in, and for none when it is in none.

    with Team(2) as team:
        team.each(work, parts)   # work(part) for every part; helpers count denormal numbers as 0
    """

    def __init__(self, threads: int):
        self.jobs = [SimpleQueue() for _ in range(threads - 1)]
        self.helpers = [Thread(target=_help, args=(jobs,), daemon=True) for jobs in self.jobs]

    def __enter__(self):
        for helper in self.helpers:
            helper.start()
        return self

    def __exit__(self, *_):
        for jobs in self.jobs:
            jobs.put(None)
        for helper in self.helpers:  # one that still runs when the interpreter ends would abort the process
            helper.join()

    def each(self, work, parts: list) -> None:
        """Call work on every part; returns when all are done. The first error of a helper is raised here."""
        if len(parts) == 1 or not self.jobs:
            for part in parts:
                work(part)
            return
        todo, done = iter(parts), SimpleQueue()
        for jobs in self.jobs:
            jobs.put((work, todo, done))
        left = len(parts) - _take(work, todo)
        while left:
            finished = done.get()
            if isinstance(finished, BaseException):
                raise finished
            left -= finished


def _take(work, todo) -> int:
    """Parts done until none is left; next() of a list's iterator is one step, so no part is taken twice."""
    count = 0
    for part in todo:
        work(part)
        count += 1
    return count


def _help(jobs: SimpleQueue) -> None:
    at_work(1)
    with torch.no_grad():
        while (job := jobs.get()) is not None:
            work, todo, done = job
            try:
                count = _take(work, todo)
            except BaseException as error:
                count = error
            if count:
                done.put(count)
