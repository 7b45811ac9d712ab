"""Take one safety net away from the cache, to show that the harness notices. The product has no such switch."""

from twostage.cache import columns as cache_facts
from twostage.cache import pages as cache_bytes
from twostage.cache import writer as cache_writer

from .stage import Stage

# The fsyncs of an undisturbed run, in order: new file, its folder, then rows and marks of three windows, publish, folder.
FSYNCS = {
    "fsync-create": 0b00_000000_01,
    "fsync-create-folder": 0b00_000000_10,
    "fsync-rows": 0b00_010101_00,
    "fsync-marks": 0b00_101010_00,
    "fsync-publish-folder": 0b10_000000_00,
}


class Agreeable(bytes):
    """A digest that matches every other."""

    def __eq__(self, other) -> bool:
        return True

    def __ne__(self, other) -> bool:
        return False

    __hash__ = None


def remove(stage: Stage, what: tuple[str, ...]) -> None:
    for name in what:
        stage.drop |= FSYNCS.get(name, 0)
    if "digests" in what:
        both = ("vectors_digest", "facts_digest")
        for module, names in ((cache_bytes, both[:1]), (cache_facts, both[1:]), (cache_writer, both)):
            for name in names:
                assert hasattr(module, name), f"{module.__name__} has no {name} to take away: was it renamed?"
                setattr(module, name, agreeable(getattr(module, name)))


def agreeable(digest):
    return lambda *args: Agreeable(digest(*args))
