"""Open a cache file that may be hostile: everything is checked before anything is read, and nothing outside it is followed."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from twostage.cache.format import ATTRIBUTES, Table, tables_of
from twostage.cache.identity import NAMES_LIMIT, STORE_DTYPES, decode_names
from twostage.cache.pages import CacheBytes
from twostage.encoder.settings import ENCODER_FIELDS, FORMATS, NUMBERS, OPTIONAL, TEXT_LIMIT, fits_field, given
from twostage.errors import BadInput
from twostage.files import disk_trouble


@dataclass
class Header:
    """What a file says about itself, checked for form only: nothing here is verified against a digest yet."""

    encoder: dict
    store_dtype: str
    fingerprint: str
    label_names: list[str]
    names_bytes: bytes
    documents: int
    hidden_size: int


class Refused(Exception):
    """What is wrong with the structure, in words."""


def open_safely(path: Path, writable: bool = False) -> tuple[CacheBytes, Header]:
    """Open and check the structure; the caller closes. BadInput in one line for whatever is not a cache.

    A path that is itself a symbolic link is followed for reading only.
    """
    flags = os.O_CLOEXEC | os.O_NONBLOCK | (os.O_RDWR | os.O_NOFOLLOW if writable else os.O_RDONLY)
    with disk_trouble(path, "cannot be opened", "give an .h5 file that extract.py made"):
        fd = os.open(path, flags)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path}: not a regular file (a folder, a pipe or a device); give an .h5 file that extract.py made")
        try:
            with os.fdopen(os.dup(fd), "rb", buffering=0) as raw, h5py.File(raw, "r", libver="earliest") as file:
                header, tables = read_structure(file, status.st_size)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
            raise Refused(f"is damaged or not a cache ({reason(error)})") from error
        return CacheBytes(fd, path, tables), header
    except Refused as error:
        os.close(fd)
        ours = path.suffix in (".h5", ".partial")
        way = "give another cache, or delete this one and extract again" if ours else "give an .h5 file that extract.py made"
        raise BadInput(f"{path}: {error}; {way}") from error
    except BaseException:
        os.close(fd)
        raise


def reason(error: BaseException) -> str:
    """The reason alone: HDF5 says "Unable to open file (reason)"."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return text.split(" (", 1)[1].removesuffix(")") if text.startswith("Unable to ") and " (" in text else text


def read_structure(file: h5py.File, file_size: int) -> tuple[Header, dict[str, Table]]:
    root = file.id
    if file.userblock_size:
        raise Refused("has a user block")
    settings = read_attributes(root)
    if settings["format"] not in FORMATS:
        raise Refused(f"is of format {settings['format']}, this program reads formats 1 to {FORMATS[-1]}")
    if settings["store_dtype"] not in STORE_DTYPES:
        raise Refused(f"stores {settings['store_dtype']!r}")
    fingerprint = settings["fingerprint"]
    if len(fingerprint) != 64 or fingerprint.strip("0123456789abcdef"):
        raise Refused("has no fingerprint")
    expected = tables_of(1, 1, settings["store_dtype"], 1)
    check_links(root, {*expected, "label_names"})
    datasets = {name: open_dataset(file, name) for name in (*expected, "label_names")}
    documents, hidden_size = shape_of(datasets["vectors"], "vectors", 2)
    (source_bytes,) = shape_of(datasets["source_bytes"], "source_bytes", 1)
    if not documents or not hidden_size:
        raise Refused("holds no vector")
    tables = {}
    regions = [(0, 8, "the signature")]
    for name, table in tables_of(documents, hidden_size, settings["store_dtype"], source_bytes).items():
        dataset = datasets[name]
        if shape_of(dataset, name, len(table.shape)) != table.shape:
            raise Refused(f"{name} has the shape {dataset.shape}, not {table.shape}")
        if not dataset.get_type().equal(h5py.h5t.py_create(table.dtype)):
            raise Refused(f"{name} has another type than {table.dtype}")
        tables[name] = Table(table.dtype, table.shape, place(dataset, name, table.nbytes, file_size, regions))
    names = read_names(datasets["label_names"], file_size, regions)
    regions.sort()
    for (_, stop, one), (start, _, other) in zip(regions, regions[1:], strict=False):
        if start < stop:
            raise Refused(f"{other} overlaps {one}")
    encoder = {name: settings[name] for name in ENCODER_FIELDS} | given(settings)
    header = Header(encoder, settings["store_dtype"], fingerprint, decode_names(names), names, documents, hidden_size)
    return header, tables


def check_links(root, expected: set[str]) -> None:
    count = root.get_num_objs()
    if count != len(expected):
        raise Refused(f"has {count} members, not {len(expected)}")
    for name in expected:
        if name.encode() not in root:
            raise Refused(f"has no {name}")
        if root.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise Refused(f"{name} is a link to somewhere else")


def open_dataset(file: h5py.File, name: str):
    found = h5py.h5o.open(file.id, name.encode())
    if not isinstance(found, h5py.h5d.DatasetID):
        raise Refused(f"{name} is not a dataset")
    layout = found.get_create_plist()
    if layout.get_layout() != h5py.h5d.CONTIGUOUS or layout.get_external_count() or layout.get_nfilters():
        raise Refused(f"{name} is not stored as plain contiguous bytes of this file")
    if h5py.h5a.get_num_attrs(found):
        raise Refused(f"{name} has attributes")
    return found


def shape_of(dataset, name: str, rank: int) -> tuple[int, ...]:
    space = dataset.get_space()
    if space.get_simple_extent_type() != h5py.h5s.SIMPLE or space.get_simple_extent_ndims() != rank:
        raise Refused(f"{name} does not have {rank} dimensions")
    if space.get_simple_extent_dims(True) != space.get_simple_extent_dims():
        raise Refused(f"{name} may grow")
    return space.get_simple_extent_dims()


def place(dataset, name: str, nbytes: int, file_size: int, regions: list) -> int:
    """The offset of its bytes, which must all lie inside the file; adds them to `regions`."""
    if dataset.get_storage_size() != nbytes:
        raise Refused(f"{name} takes {dataset.get_storage_size()} bytes, not {nbytes}")
    if not nbytes:
        return 0
    offset = dataset.get_offset()
    if offset is None or offset + nbytes > file_size:
        raise Refused(f"{name} reaches beyond the end of the file")
    regions.append((offset, offset + nbytes, name))
    return offset


def read_names(dataset, file_size: int, regions: list) -> bytes:
    kind, space = dataset.get_type(), dataset.get_space()
    if space.get_simple_extent_type() != h5py.h5s.SCALAR or not plain_text(kind, min(NAMES_LIMIT, file_size)):
        raise Refused("label_names is not one string of fixed length")
    place(dataset, "label_names", kind.get_size(), file_size, regions)
    return read_text(dataset, kind)


def read_attributes(root) -> dict:
    count, optional = h5py.h5a.get_num_attrs(root), [name for name in OPTIONAL if h5py.h5a.exists(root, name.encode())]
    if count != len(ATTRIBUTES) + len(optional):
        raise Refused(f"has {count} attributes, not {len(ATTRIBUTES) + len(optional)}")
    values = {}
    for name in (*ATTRIBUTES, *optional):
        if not h5py.h5a.exists(root, name.encode()):
            raise Refused(f"has no attribute {name}")
        attribute = h5py.h5a.open(root, name.encode())
        if attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR:
            raise Refused(f"attribute {name} is not one value")
        kind = attribute.get_type()
        if name in NUMBERS:
            if not kind.equal(h5py.h5t.STD_I64LE):
                raise Refused(f"attribute {name} is not a whole number of 64 bits")
            value = np.zeros((), "<i8")
            attribute.read(value)
            values[name] = int(value)
        else:
            if not plain_text(kind, TEXT_LIMIT):
                raise Refused(f"attribute {name} is not a string of fixed length")
            values[name] = read_text(attribute, kind).decode()
        if not fits_field(name, values[name]) or values[name] == OPTIONAL.get(name):
            raise Refused(f"attribute {name} has an impossible value")
    return values


def plain_text(kind, limit: int) -> bool:
    return kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str() and 0 < kind.get_size() <= limit


def read_text(holder, kind) -> bytes:
    value = np.zeros((), f"S{kind.get_size()}")
    if isinstance(holder, h5py.h5d.DatasetID):
        holder.read(h5py.h5s.ALL, h5py.h5s.ALL, value, kind)
    else:
        holder.read(value, kind)
    return value.tobytes()
