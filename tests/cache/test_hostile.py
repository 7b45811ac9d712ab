"""Files that pretend to be a cache: refused in one line, quickly, in little memory, following nothing outside the file."""

import os
import struct
import time
import tracemalloc

import h5py
import numpy as np
import pytest

from tests.faults.stage import D, N, extract, make_identity
from twostage.cache.reader import open_cache, verify_cache
from twostage.cache.reuse import find_vectors
from twostage.cache.validation import open_safely
from twostage.cache.writer import CacheWriter
from twostage.errors import BadInput
from twostage.files import partial_of

SECRET = b"what another file holds " * 400


def replaced(name, **how):
    """The dataset created anew by h5py with these arguments instead of its own."""

    def change(file, folder):
        data = file[name][()]
        del file[name]
        arguments = {"shape": data.shape, "dtype": data.dtype, **how}
        if "data" not in arguments and "external" not in arguments and how.get("fill", True):
            arguments["data"] = data
        arguments.pop("fill", None)
        file.create_dataset(name, **arguments)

    return change


def linked(make):
    def change(file, folder):
        (folder / "secret").write_bytes(SECRET)
        with h5py.File(folder / "other.h5", "w") as other:
            other["vectors"] = np.zeros((N, D), np.float16)
        del file["vectors"]
        file["vectors"] = make(folder)

    return change


def external(file, folder):
    (folder / "secret").write_bytes(SECRET)
    replaced("vectors", external=[(str(folder / "secret"), 0, h5py.h5f.UNLIMITED)])(file, folder)


def virtual(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["vectors"] = np.zeros((N, D), np.float16)
    layout = h5py.VirtualLayout((N, D), np.float16)
    layout[:] = h5py.VirtualSource(folder / "other.h5", "vectors", (N, D))
    del file["vectors"]
    file.create_virtual_dataset("vectors", layout)


def aliased(file, folder):
    del file["label"]
    file["label"] = file["token_count"]


def grouped(file, folder):
    del file["vectors"]
    file.create_group("vectors")


def committed_type(file, folder):
    del file["vectors"]
    file["vectors"] = np.dtype(np.float16)


def looped(file, folder):
    del file["label"]
    file["label"] = file["/"]


def extra_member(file, folder):
    file["more"] = 1


def missing_member(file, folder):
    del file["split"]


def crowded(file, folder):
    for number in range(3000):
        file.create_group(f"group{number}")


def attribute(name, value, **how):
    def change(file, folder):
        if name in file.attrs:
            del file.attrs[name]
        file.attrs.create(name, value, **how)

    return change


def attribute_of_dataset(file, folder):
    file["vectors"].attrs["unit"] = "m"


def names_of_any_length(file, folder):
    del file["label_names"]
    file["label_names"] = "[]"


def names_no_json(file, folder):
    size = file["label_names"].dtype.itemsize
    del file["label_names"]
    file.create_dataset("label_names", data=np.array(b"[" * size, f"S{size}"))


HOSTILE = {
    "an external link": (linked(lambda folder: h5py.ExternalLink(folder / "other.h5", "/vectors")), "link to somewhere"),
    "a soft link": (linked(lambda folder: h5py.SoftLink("/label")), "link to somewhere"),
    "a dangling link": (linked(lambda folder: h5py.SoftLink("/nothing")), "vectors"),
    "external storage": (external, "not stored as plain contiguous bytes"),
    "a virtual dataset": (virtual, "not stored as plain contiguous bytes"),
    "chunks": (replaced("vectors", chunks=(64, D)), "not stored as plain contiguous bytes"),
    "a filter": (replaced("vectors", compression="gzip"), "not stored as plain contiguous bytes"),
    "a checksum filter": (replaced("label", fletcher32=True), "not stored as plain contiguous bytes"),
    "a compressed bomb": (
        replaced("vectors", shape=(1 << 30, D), chunks=(1 << 20, D), compression="gzip", fill=False),
        "not stored as plain contiguous bytes",
    ),
    "1.7 petabytes": (replaced("vectors", shape=(1 << 40, 850), fill=False), "has the shape"),
    "petabytes in all columns": (
        lambda file, folder: [
            replaced(name, shape=(1 << 40, *file[name].shape[1:]), fill=False)(file, folder)
            for name in ("vectors", "label", "split", "token_count", "truncated", "text_digest", "source_end")
        ],
        "has the shape|takes 0 bytes|beyond the end",
    ),
    "vectors that may grow": (replaced("vectors", maxshape=(None, D), chunks=True), "contiguous"),
    "another width": (replaced("label", dtype=np.int64), "another type"),
    "big-endian numbers": (replaced("vectors", dtype=">f2"), "another type"),
    "whole numbers as vectors": (replaced("vectors", dtype=np.int16), "another type"),
    "objects as labels": (replaced("label", dtype=h5py.string_dtype(), data=["x"] * N), "another type|takes"),
    "references as labels": (replaced("label", dtype=h5py.ref_dtype, fill=False), "another type|takes|beyond"),
    "another shape": (replaced("label", shape=(N + 1,), fill=False), "has the shape"),
    "three dimensions": (replaced("vectors", shape=(N, D, 1), data=np.zeros((N, D, 1))), "does not have 2 dimensions"),
    "no dimension": (replaced("vectors", shape=(), data=0.0), "does not have 2 dimensions"),
    "no document": (replaced("vectors", shape=(0, D), fill=False), "holds no vector"),
    "a group in place of vectors": (grouped, "not a dataset"),
    "a type in place of vectors": (committed_type, "not a dataset"),
    "the root inside itself": (looped, "not a dataset"),
    "two names of one dataset": (aliased, "overlaps"),
    "another member": (extra_member, "has 13 members"),
    "a missing member": (missing_member, "has 11 members"),
    "a crowd of members": (crowded, "has 3012 members"),
    "another attribute": (attribute("more", 1), "has 11 attributes"),
    "a text of any length": (attribute("pooling", "cls", dtype=h5py.string_dtype()), "not a string of fixed length"),
    "a long attribute": (attribute("pooling", np.bytes_(b"x" * 5000)), "not a string of fixed length"),
    "a number for a text": (attribute("pooling", 1), "not a string of fixed length"),
    "a text for a number": (attribute("max_length", np.bytes_(b"64")), "not a whole number"),
    "a list for a number": (attribute("max_length", [64]), "not one value"),
    "a negative length": (attribute("max_length", -1, dtype="<i8"), "impossible value"),
    "a later format": (attribute("format", 7, dtype="<i8"), "is of format 7, this program reads formats 1 to 6"),
    "another stored dtype": (attribute("store_dtype", np.bytes_(b"int8")), "stores 'int8'"),
    "a fingerprint that is none": (attribute("fingerprint", np.bytes_(b"z" * 64)), "has no fingerprint"),
    "another fingerprint": (attribute("fingerprint", np.bytes_(b"0" * 64)), "fingerprint that it carries"),
    "an attribute of a dataset": (attribute_of_dataset, "has attributes"),
    "names of any length": (names_of_any_length, "label_names is not one string"),
    "names that are no JSON": (names_no_json, "damaged or not a cache"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "whole.h5"
    extract(path, make_identity())
    return path.read_bytes()


def refusal(path) -> str:
    """What opening says, after checking that it is one line, quick and small."""
    tracemalloc.start()
    start = time.monotonic()
    try:
        with pytest.raises(BadInput) as refused:
            open_cache(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
        assert time.monotonic() - start < 20
    finally:
        tracemalloc.stop()
    text = str(refused.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    if path.is_file():
        assert verify_cache(path)
        assert not find_vectors(path.parent, make_identity()).have.any()
    return text


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused(kind, whole, tmp_path):
    change, told = HOSTILE[kind]
    folder = tmp_path / "cache"
    folder.mkdir()
    path = folder / "x.h5"
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        change(file, tmp_path)
    text = refusal(path)
    assert [part for part in told.split("|") if part in text], text
    partial = path.with_name("x.h5.partial")
    os.rename(path, partial)
    before = partial.read_bytes()
    with pytest.raises(BadInput), CacheWriter(path, make_identity()):
        pass
    assert partial.read_bytes() == before


def patched(whole, old, new):
    assert whole.count(old) == 1
    return whole.replace(old, new)


def table(whole, tmp_path, name):
    path = tmp_path / "probe.h5"
    path.write_bytes(whole)
    file, _ = open_safely(path)
    file.close()
    path.unlink()
    return file.tables[name]


def test_shapes_whose_size_overflows_64_bits_are_refused(whole, tmp_path):
    path = tmp_path / "x.h5"
    old = struct.pack("<4Q", N, D, N, D)
    for shape in ((1 << 63, 2), (1 << 62, 4), (1 << 32, 1 << 32), ((1 << 64) - 1, 1), (N, 1 << 61)):
        path.write_bytes(patched(whole, old, struct.pack("<4Q", *shape, *shape)))
        refusal(path)


def test_places_outside_the_file_or_in_another_table_are_refused(whole, tmp_path):
    vectors, label, counts = (table(whole, tmp_path, name) for name in ("vectors", "label", "token_count"))
    path = tmp_path / "x.h5"
    for own, offset in (
        (vectors, len(whole) - 100),
        (vectors, 1 << 62),
        (vectors, (1 << 64) - 100),
        (vectors, (1 << 64) - 1),
        (label, counts.offset),
        (label, counts.offset + 4),
        (label, 0),
    ):
        old, new = struct.pack("<2Q", own.offset, own.nbytes), struct.pack("<2Q", offset, own.nbytes)
        path.write_bytes(patched(whole, old, new))
        refusal(path)


def test_a_user_block_is_refused(whole, tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(bytes(512) + whole)
    assert "user block" in refusal(path) or "damaged" in refusal(path)


def test_what_is_no_hdf5_file_is_refused(whole, tmp_path):
    for data in (b"", b"\x89HDF\r\n\x1a\n", b"plain text\n" * 100, bytes(10_000), whole[:100], os.urandom(5000)):
        path = tmp_path / "x.h5"
        path.write_bytes(data)
        assert "damaged or not a cache" in refusal(path)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo.h5")
    assert "not a regular file" in refusal(tmp_path / "fifo.h5")
    (tmp_path / "folder.h5").mkdir()
    assert "not a regular file" in refusal(tmp_path / "folder.h5")
    assert "No such file" in refusal(tmp_path / "absent.h5")
    (tmp_path / "dangling.h5").symlink_to(tmp_path / "nothing")
    assert "No such file" in refusal(tmp_path / "dangling.h5")


def test_a_link_to_a_cache_given_by_the_user_is_followed_when_reading(whole, tmp_path):
    (tmp_path / "real.h5").write_bytes(whole)
    (tmp_path / "link.h5").symlink_to(tmp_path / "real.h5")
    assert open_cache(tmp_path / "link.h5").vectors().shape == (N, D)


def test_an_unfinished_file_that_is_a_link_is_not_written_through(whole, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(whole)
    (tmp_path / "x.h5.partial").symlink_to(target)
    with pytest.raises(BadInput), CacheWriter(tmp_path / "x.h5", make_identity()):
        pass
    partial_of(tmp_path / "y.h5.partial").symlink_to(target)
    with pytest.raises(BadInput), CacheWriter(tmp_path / "y.h5", make_identity()):
        pass
    assert target.read_bytes() == whole


@pytest.mark.parametrize("name, value, told", [
    ("label", 4, "a label has no name"),
    ("label", -1, "a label has no name"),
    ("split", 3, "a split has no name"),
    ("source_end", 1 << 40, "the sources do not add up"),
    ("source_end", -1, "the sources do not add up"),
    ("source_bytes", 0xFF, "the sources are not text"),
])  # fmt: skip
def test_values_outside_their_meaning_are_refused_even_with_a_right_fingerprint(name, value, told, tmp_path):
    identity = make_identity()
    if name.startswith("source"):
        text, ends = (part.copy() for part in identity.source_bytes)
        (ends if name == "source_end" else text)[3] = value
        identity.__dict__["source_bytes"] = (text, ends)
    else:
        column = getattr(identity, name).astype("<i4" if name == "label" else np.uint8)
        column[3] = value
        object.__setattr__(identity, name, column)
    path = tmp_path / "x.h5"
    with pytest.raises((BadInput, IndexError)):
        extract(path, identity)
    partial = tmp_path / "x.h5.partial"
    if partial.exists():
        os.rename(partial, path)
    assert told in refusal(path)


def test_a_source_that_ends_inside_a_character_is_refused(tmp_path):
    identity = make_identity()
    text, ends = (part.copy() for part in identity.source_bytes)
    ends[3] += 1  # one byte of 体 is left to the next source
    identity.__dict__["source_bytes"] = (text, ends)
    with pytest.raises(BadInput, match="the sources are not text"):
        extract(tmp_path / "x.h5", identity)


def test_nobody_is_told_to_delete_what_is_no_cache(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for path, what in ((tmp_path, "not a regular file"), (tmp_path / "config.json", "damaged or not a cache")):
        with pytest.raises(BadInput, match=what) as refused:
            open_cache(path)
        assert "give an .h5 file that extract.py made" in str(refused.value) and "delete this" not in str(refused.value)
