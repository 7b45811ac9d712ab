"""The feature cache: written in windows, resumed, published, read back, reused. Faults of the disk: tests/faults."""

import gc
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.faults.stage import WINDOW, D, N, extract, in_child, make_identity, make_vectors, token_counts
from twostage.cache.reader import find_cache, open_cache, read_facts, verify_cache, write_facts
from twostage.cache.reuse import find_vectors
from twostage.cache.validation import open_safely
from twostage.cache.writer import CacheWriter
from twostage.errors import BadInput
from twostage.files import release_lock, take_lock


@pytest.fixture
def identity():
    return make_identity()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "news-bert-0000.h5"


@pytest.fixture
def finished(path, identity):
    extract(path, identity)
    return path


def stored(identity):
    return make_vectors(identity).astype(np.float16)


def commit(writer, first, stop):
    vectors, counts = make_vectors(writer.identity)[first:stop], token_counts(writer.identity)[first:stop]
    writer.commit(first, vectors, counts, counts > 99)


def flip(path, name, row):
    """Flip one bit of the first byte of a row."""
    file, _ = open_safely(path)
    file.close()
    at = file.tables[name].offset + row * file.tables[name].row_bytes
    with open(path, "r+b") as raw:
        raw.seek(at)
        byte = raw.read(1)[0]
        raw.seek(at)
        raw.write(bytes([byte ^ 1]))


# The file


def specified(heading):
    """The tables of cache/README.md: name -> further cells."""
    page = (ROOT / "cache" / "README.md").read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.M)
    return {name: cells.split(" | ") for name, cells in rows}


def test_bare_h5py_finds_what_the_specification_says(finished, identity):
    sizes = {"N": N, "D": D, "P": -(-N // 64), "S": sum(len(s.encode("utf-8", "surrogatepass")) for s in identity.sources)}
    datasets, attributes = specified("Datasets"), specified("Attributes of the root")
    with h5py.File(finished, "r") as file:
        assert set(file) == set(datasets)
        assert set(file.attrs) == set(attributes) - {name for name, (_, what) in attributes.items() if "absent where" in what}
        for name, (shape, dtype, _) in datasets.items():
            if shape == "scalar":
                assert file[name].shape == ()
                continue
            assert file[name].shape == tuple(sizes.get(d, d) for d in map(numeral, re.findall(r"\w+", shape)))
            assert file[name].dtype.name in dtype
            assert file[name].chunks is None and not file[name].attrs
        for name, value in file.attrs.items():
            dtype = attributes[name][0]
            assert isinstance(value, np.int64) if dtype == "int64" else isinstance(value, np.bytes_ | str)
        assert np.array_equal(file["vectors"][:], stored(identity))
        assert np.array_equal(file["label"][:], identity.label)
        assert json.loads(file["label_names"][()]) == identity.label_names
        ends, text = file["source_end"][:], file["source_bytes"][:].tobytes()
        assert text[ends[4] : ends[5]].decode("utf-8", "surrogatepass") == identity.sources[5]


def numeral(text):
    return int(text) if text.isdigit() else text


def test_the_digests_are_those_of_the_specification(finished):
    with h5py.File(finished, "r") as file:
        fields = specified("Attributes of the root")
        settings = {name: file.attrs[name] for name in list(fields)[:-1] if name in file.attrs}
        settings = {name: int(v) if isinstance(v, np.int64) else as_text(v) for name, v in settings.items()}
        head = json.dumps({**settings, "hidden_size": D, "documents": N}, sort_keys=True).encode()
        total = hashlib.sha256(b"twostage cache\0")
        for part in (head, file["label_names"][()]):
            total.update(len(part).to_bytes(8, "little") + part)
        for name in ("text_digest", "label", "split", "source_end", "source_bytes"):
            total.update(file[name][:].tobytes())
        assert total.hexdigest() == as_text(file.attrs["fingerprint"])
        page = 2
        start = total.digest() + page.to_bytes(8, "little")
        vectors = file["vectors"][128:192].tobytes()
        assert hashlib.sha256(b"vectors" + start + vectors).digest() == file["vectors_digest"][page].tobytes()
        columns = ("text_digest", "label", "split", "token_count", "truncated", "source_end")
        facts = b"".join(file[name][128:192].tobytes() for name in columns)
        ends = file["source_end"][:]
        facts += file["source_bytes"][ends[127] : ends[191]].tobytes()
        assert hashlib.sha256(b"facts" + start + facts).digest() == file["facts_digest"][page].tobytes()


def as_text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def test_the_library_around_hdf5_imports_no_torch():
    code = "import sys, twostage.cache.writer, twostage.cache.reader, twostage.cache.reuse; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# Writing and resuming


def test_what_is_written_is_read_back(finished, identity):
    with open_cache(finished) as cache:
        assert len(cache) == N
        assert cache.fingerprint == identity.fingerprint
        assert np.array_equal(cache.vectors(), stored(identity))
        assert np.array_equal(cache.token_count, token_counts(identity))
        assert np.array_equal(cache.truncated, token_counts(identity) > 99)
        assert cache.sources == identity.sources
    assert verify_cache(finished) == []
    assert sorted(os.listdir(finished.parent)) == [finished.name]


@pytest.mark.parametrize("windows", [[(0, N)], [(128, 192), (0, 64), (320, N), (64, 128), (192, 320)]])
def test_the_bytes_depend_on_no_window_path_or_interruption(finished, identity, tmp_path, windows):
    other = tmp_path / "elsewhere" / "y.h5"
    for first, stop in windows:
        with CacheWriter(other, identity) as writer:
            commit(writer, first, stop)
    with CacheWriter(other, identity) as writer:
        assert writer.done.all()
        writer.publish()
    assert other.read_bytes() == finished.read_bytes()


def test_a_resumed_writer_knows_and_says_what_is_there(path, identity, capsys):
    with CacheWriter(path, identity) as writer:
        commit(writer, 64, 192)
    with CacheWriter(path, identity) as writer:
        assert np.flatnonzero(writer.done).tolist() == list(range(64, 192))
        vectors, counts, truncated = writer.rows([191, 64, 64])
    assert np.array_equal(vectors, stored(identity)[[191, 64, 64]])
    assert np.array_equal(counts, token_counts(identity)[[191, 64, 64]])
    assert truncated.dtype == bool
    assert "128 of 337 documents found and verified" in capsys.readouterr().err


def test_a_damaged_committed_page_is_said_and_encoded_again(path, identity, capsys):
    with CacheWriter(path, identity) as writer:
        commit(writer, 0, 192)
    flip(writer.partial, "vectors", 70)
    flip(writer.partial, "token_count", 130)
    with CacheWriter(path, identity) as writer:
        assert np.flatnonzero(writer.done).tolist() == list(range(64))
    assert "page 1 (rows 64-127), page 2 (rows 128-191)" in capsys.readouterr().err
    extract(path, identity)
    assert verify_cache(path) == []


def test_committed_pages_never_change(path, identity):
    with CacheWriter(path, identity) as writer:
        commit(writer, 0, 64)
        writer.commit(0, np.zeros((128, D), np.float32), np.zeros(128), np.zeros(128, bool))
        assert np.array_equal(writer.rows(range(64))[0], stored(identity)[:64])
        assert not writer.rows(range(64, 128))[0].any()


@pytest.mark.parametrize("first, stop", [(1, 65), (0, 63), (64, 64), (320, 336)])
def test_only_whole_pages_are_committed(path, identity, first, stop):
    with CacheWriter(path, identity) as writer, pytest.raises(ValueError, match="whole pages"):
        commit(writer, first, stop)


def test_publishing_an_unfinished_cache_is_an_error(path, identity):
    with CacheWriter(path, identity) as writer, pytest.raises(ValueError, match="209 documents are not committed"):
        commit(writer, 0, WINDOW)
        writer.publish()
    assert not path.exists()


def test_damage_between_commit_and_publish_is_found(path, identity):
    with CacheWriter(path, identity) as writer:
        commit(writer, 0, N)
        flip(writer.partial, "vectors", 200)
        with pytest.raises(BadInput, match=r"page 3 \(rows 192-255\): vectors do not match"):
            writer.publish()
    assert not path.exists()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_naming_the_document(path, identity, number):
    vectors = make_vectors(identity)[:WINDOW].copy()
    vectors[77, 3] = number
    with CacheWriter(path, identity) as writer:
        with pytest.raises(BadInput, match=r"体育/77.txt: the encoder gives a number that is not finite"):
            writer.commit(0, vectors, np.ones(WINDOW), np.zeros(WINDOW, bool))
        assert not writer.done.any()


def test_overflow_into_float16_is_refused_and_float32_takes_it(path, identity):
    vectors = make_vectors(identity)
    vectors[77, 3] = -70_000
    with CacheWriter(path, identity) as writer, pytest.raises(BadInput, match="体育/77.txt.*70,000.*float32"):
        writer.commit(0, vectors, np.ones(N), np.zeros(N, bool))
    wide = path.with_name("wide.h5")
    with CacheWriter(wide, replace(identity, store_dtype="float32")) as writer:
        writer.commit(0, vectors, np.ones(N), np.zeros(N, bool))
        writer.publish()
    assert np.array_equal(open_cache(wide).vectors(), vectors)


def test_a_finished_cache_is_adopted_without_a_change(finished, identity):
    before = finished.stat()
    with CacheWriter(finished, identity) as writer:
        assert writer.finished and writer.done.all()
        assert np.array_equal(writer.rows([3])[0], stored(identity)[[3]])
        commit(writer, 0, N)
        assert writer.publish() == finished
    after = finished.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_publishing_over_an_equal_cache_that_appeared_meanwhile_is_fine(finished, identity, tmp_path):
    path = tmp_path / "late.h5"
    with CacheWriter(path, identity) as writer:
        commit(writer, 0, N)
        path.write_bytes(finished.read_bytes())
        assert writer.publish() == path
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cache", "late.h5"]


def test_publishing_never_replaces_another_cache(path, identity, tmp_path):
    extract(tmp_path / "other.h5", make_identity(max_length=32))
    with CacheWriter(path, identity) as writer:
        commit(writer, 0, N)
        path.write_bytes((tmp_path / "other.h5").read_bytes())
        with pytest.raises(BadInput, match="max_length: cache 32, asked 64"):
            writer.publish()
    assert path.read_bytes() == (tmp_path / "other.h5").read_bytes()


# What does not fit is refused


@pytest.mark.parametrize("finish", [False, True])
def test_another_identity_under_the_same_name_is_refused_untouched(path, identity, finish):
    with CacheWriter(path, identity) as writer:
        commit(writer, 0, N)
        if finish:
            writer.publish()
    there = path if finish else writer.partial
    before = there.read_bytes()
    label = identity.label.copy()
    label[5] = (label[5] + 1) % 4
    for other, told in (
        (make_identity(max_length=32), "max_length: cache 64, asked 32"),
        (make_identity(N + 3), r"documents: cache 337, asked 340 \(3 new, 0 gone\)"),
        (replace(identity, store_dtype="float32"), "store_dtype: cache float16, asked float32"),
        (replace(identity, label=label), "label: 1 document differs"),
    ):
        with pytest.raises(BadInput, match=told) as refused, CacheWriter(path, other):
            pass
        assert str(there) in str(refused.value) and "delete it, or give another" in str(refused.value)
    assert there.read_bytes() == before


def test_a_damaged_finished_cache_is_not_taken_for_done(finished, identity):
    flip(finished, "vectors", 300)
    with pytest.raises(BadInput, match=r"page 4 \(rows 256-319\)"), CacheWriter(finished, identity):
        pass


def test_a_second_writer_is_told_who_writes_and_touches_nothing(path, identity):
    with CacheWriter(path, identity) as writer:
        commit(writer, 0, WINDOW)
        before = {entry.name: entry.read_bytes() for entry in path.parent.iterdir()}
        with pytest.raises(BadInput, match=rf"process {os.getpid()} on .* \(since 20"), CacheWriter(path, identity):
            pass
        assert {entry.name: entry.read_bytes() for entry in path.parent.iterdir()} == before


def test_a_lock_left_by_a_dead_process_does_not_block(path, identity):
    path.parent.mkdir()
    lock = path.with_name(path.name + ".lock")
    lock.write_text('{"pid": 1, "host": "gone", "since": "long ago"}')
    extract(path, identity)
    assert not lock.exists()


def test_a_lock_file_that_is_replaced_while_waiting_is_no_lock(tmp_path):
    first = take_lock(tmp_path / "lock", tmp_path / "x.h5", "--cache-dir")
    (tmp_path / "lock").unlink()
    other = take_lock(tmp_path / "lock", tmp_path / "x.h5", "--cache-dir")
    with pytest.raises(BadInput, match="is writing it"):
        take_lock(tmp_path / "lock", tmp_path / "x.h5", "--cache-dir")
    first.release()
    release_lock(other)


def test_a_folder_that_cannot_be_used_is_refused_in_one_line(tmp_path, identity):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BadInput, match="give another --cache-dir"), CacheWriter(tmp_path / "file" / "x.h5", identity):
        pass
    (tmp_path / "dangling.h5.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput), CacheWriter(tmp_path / "dangling.h5", identity):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_read_only_folder_is_refused_in_one_line(identity):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)

        def work():
            if os.geteuid() == 0:
                os.seteuid(65534)  # root may write anywhere
            with pytest.raises(BadInput) as refused, CacheWriter(Path(folder) / "x.h5", identity):
                pass
            return str(refused.value)

        told = in_child(work)
        assert told == f"{folder}/x.h5.lock: cannot be locked: Permission denied; give a --cache-dir that can be written to"
        assert not os.listdir(folder)


def test_a_full_disk_is_said_before_any_vector(tmp_path):
    """A limit on the size of files stands in for the disk; the process ignores the signal that goes with it."""
    code = """
import resource, signal, sys
from pathlib import Path
from tests.faults.stage import make_identity
from twostage.cache.writer import CacheWriter
from twostage.errors import BadInput
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))
try:
    CacheWriter(Path(sys.argv[1]), make_identity()).__enter__()
except BadInput as refused:
    print(refused)
"""
    run = [sys.executable, "-c", code, tmp_path / "cache" / "x.h5"]
    told = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"the cache needs [\d,]+ bytes, [\d,]+ are free; make room there", told), told
    assert not list((tmp_path / "cache").iterdir())


# Reading


def test_any_rows_in_any_order_are_one_verified_pass(finished, identity):
    with open_cache(finished) as cache:
        rows = np.random.default_rng(0).integers(0, N, 500)
        assert np.array_equal(cache.vectors(rows=rows), stored(identity)[rows])
        assert np.array_equal(cache.vectors(split="val"), stored(identity)[identity.split == 1])
        assert cache.vectors(rows=[]).shape == (0, D)
        wide = cache.vectors(out_dtype=np.float32)
        assert wide.dtype == np.float32 and np.array_equal(wide, stored(identity))
        with pytest.raises(IndexError):
            cache.vectors(rows=[N])
        with pytest.raises(IndexError):
            cache.vectors(rows=[-1])


def test_large_caches_are_read_in_parallel_chunks(path):
    identity = make_identity(64 * 200 + 5)
    extract(path, identity)
    with open_cache(path) as cache:
        assert np.array_equal(cache.vectors(), stored(identity))
        assert np.array_equal(cache.vectors(rows=range(len(cache) - 1, -1, -1)), stored(identity)[::-1])
    flip(path, "vectors", 64 * 150)
    with pytest.raises(BadInput, match=r"page 150 \(rows 9600-9663\)"):
        open_cache(path).vectors()


def test_a_damaged_vector_is_never_handed_out(finished):
    flip(finished, "vectors", 130)
    with open_cache(finished) as cache:
        with pytest.raises(BadInput, match=r"page 2 \(rows 128-191\)"):
            cache.vectors()
        with pytest.raises(BadInput, match=r"page 2 \(rows 128-191\)"):
            cache.vectors(rows=[129])
        assert len(cache.vectors(rows=[0, 336])) == 2
    assert verify_cache(finished) == ["page 2 (rows 128-191): vectors do not match their digest"]


def test_damage_beside_the_vectors_is_found_on_opening_and_located(finished):
    flip(finished, "token_count", 64)
    flip(finished, "vectors", 336)
    with pytest.raises(BadInput, match=r"page 1 \(rows 64-127\)"):
        open_cache(finished)
    faults = verify_cache(finished)
    assert [fault.split(":")[0] for fault in faults] == ["page 1 (rows 64-127)", "page 5 (rows 320-336)"]


def test_an_unfinished_file_is_no_cache(path, identity):
    with CacheWriter(path, identity) as writer:
        commit(writer, 0, 64)
    os.rename(writer.partial, path)
    with pytest.raises(BadInput, match="not marked as written"):
        open_cache(path)


def test_the_only_cache_is_found_and_several_are_listed(finished, identity, tmp_path):
    assert find_cache(finished.parent) == finished
    extract(finished.with_name("b.h5"), identity)
    with pytest.raises(BadInput, match="2 caches, give one: .*b.h5"):
        find_cache(finished.parent)
    with pytest.raises(BadInput, match="no cache in it.*extract.py"):
        find_cache(tmp_path / "nowhere")


def test_facts_of_the_run_are_kept_beside_and_losing_them_is_no_error(finished):
    write_facts(finished, {"device": "cpu", "source": "lone \udcff"})
    assert read_facts(finished) == {"device": "cpu", "source": "lone \udcff"}
    for broken in ("{", "[]", '{"device":' + "[" * 100_000):
        Path(f"{finished}.json").write_text(broken)
        assert read_facts(finished) == {}
    Path(f"{finished}.json").unlink()
    assert read_facts(finished) == {}


def test_a_cache_that_is_open_when_python_ends_is_closed_without_a_word(finished):
    code = "import sys, twostage; twostage.kept = twostage.open_cache(sys.argv[1])"
    run = subprocess.run([sys.executable, "-c", code, finished], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_cache_that_was_closed_says_so(finished):
    with open_cache(finished) as cache:
        pass
    for use in (cache.vectors, cache.verify):
        with pytest.raises(BadInput, match=f"^{finished}: was closed; open it again"):
            use()


def test_a_cache_that_nobody_holds_any_more_gives_its_file_back(finished):
    before = os.listdir("/proc/self/fd")
    cache = open_cache(finished)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    del cache
    gc.collect()
    assert os.listdir("/proc/self/fd") == before


# Vectors lent by finished caches


def test_a_grown_reordered_relabelled_corpus_borrows_all_it_can(finished, identity):
    grown = make_identity(N + 4, labels_from=1)
    order = np.random.default_rng(0).permutation(N + 4)
    asked = replace(grown, digest=grown.digest[order], label=grown.label[order], split=grown.split[order])
    lent = find_vectors(finished.parent, asked)
    assert np.array_equal(lent.have, order < N)
    rows = np.flatnonzero(lent.have)
    vectors, counts, truncated = lent.rows(rows)
    assert np.array_equal(vectors, make_vectors(asked)[rows].astype(np.float16))
    assert np.array_equal(counts, token_counts(asked)[rows])
    assert np.array_equal(truncated, token_counts(asked)[rows] > 99)


def test_other_encoder_settings_lend_nothing(finished):
    assert not find_vectors(finished.parent, make_identity(max_length=32)).have.any()


def test_float16_never_feeds_float32_but_the_other_way_round(path, identity):
    wide = replace(identity, store_dtype="float32")
    extract(path, identity)
    assert not find_vectors(path.parent, wide).have.any()
    path.unlink()
    extract(path, wide)
    assert find_vectors(path.parent, identity).have.all()


def test_a_damaged_page_of_a_donor_is_said_and_not_lent(finished, identity, capsys):
    flip(finished, "vectors", 70)
    lent = find_vectors(finished.parent, identity)
    assert np.flatnonzero(~lent.have).tolist() == list(range(64, 128))
    assert "damaged" in capsys.readouterr().err


def test_a_donor_that_is_damaged_later_is_noticed_when_copied(finished, identity):
    lent = find_vectors(finished.parent, identity)
    flip(finished, "vectors", 70)
    with pytest.raises(BadInput, match="page 1"):
        lent.rows([70])


def test_a_donor_with_damaged_facts_lends_nothing_and_another_one_helps(finished, identity, capsys):
    flip(finished, "token_count", 3)
    assert not find_vectors(finished.parent, identity).have.any()
    assert "not reused" in capsys.readouterr().err
    extract(finished.with_name("z.h5"), replace(identity, label=identity.label * 0))
    assert find_vectors(finished.parent, identity).have.all()


def test_files_that_are_no_caches_do_not_stop_the_search(finished, identity):
    finished.with_name("a.h5").write_bytes(b"no cache")
    finished.with_name("b.h5").mkdir()
    assert find_vectors(finished.parent, identity).have.all()
    assert not find_vectors(finished.parent / "nowhere", identity).have.any()
