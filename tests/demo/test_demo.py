"""The word demo: a corpus and a BERT, the same every time, whole or absent, built once."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT
from twostage.demo import corpus_and_bert as demo
from twostage.demo.text import documents
from twostage.errors import BadInput
from twostage.recipes import THUCNEWS_CLASSES

FEW_STEPS = 3
BUILD = (
    "import sys; from pathlib import Path; from twostage.demo.corpus_and_bert import build; from twostage.progress import spoken\n"
    "with spoken(): build(Path(sys.argv[1]), 5, {steps})"
)


@pytest.fixture(scope="session")
def demo_cache(tmp_path_factory) -> Path:
    """A cache folder with the demo in it, its BERT hardly pretrained."""
    cache = tmp_path_factory.mktemp("demo-cache")
    demo.build(cache / "demo", steps=FEW_STEPS)
    return cache


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run_python(code: str, *args) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], cwd=ROOT, capture_output=True, text=True)


def test_the_sample_is_the_same_for_a_seed_and_another_for_another():
    assert documents(30, 0) == documents(30, 0)
    assert documents(30, 0) != documents(30, 1)
    text = "".join(f"{name}/{number}\n{text}" for name, number, text in documents(150, 0))
    # these very bytes on every machine: a new figure here goes with a new EDITION in twostage/demo/corpus_and_bert.py
    assert hashlib.sha256(text.encode("utf-8")).hexdigest()[:16] == "8d24c3aca8f15c6a"


def test_every_thucnews_class_has_a_hundred_documents_all_different():
    sample = documents(demo.PER_CLASS, demo.SEED)
    counts = Counter(name for name, _, _ in sample)
    assert set(counts) == set(THUCNEWS_CLASSES)
    assert min(counts.values()) >= 100
    assert len({text for _, _, text in sample}) == len(sample)


def test_documents_look_like_thucnews_a_title_then_indented_paragraphs():
    for _, _, text in documents(20, 0):
        title, *paragraphs = text.removesuffix("\n").split("\n")
        assert title and not title.startswith("　")
        assert len(paragraphs) == 2 and all(paragraph.startswith("　　") for paragraph in paragraphs)


def test_classes_share_their_words_so_that_no_word_list_is_perfect():
    """A class's subjects and events also stand in documents of other classes."""
    from twostage.demo.text import OWN

    sample = documents(demo.PER_CLASS, demo.SEED)
    for name, (subjects, events, _) in OWN.items():
        words = [*subjects.split(), *events.split()]
        elsewhere = sum(any(word in text for word in words) for other, _, text in sample if other != name)
        assert elsewhere >= 10, name


def test_the_written_tree_is_read_as_a_corpus_of_the_fourteen_classes(demo_cache):
    from twostage.corpus.reader import read_corpus

    path, _ = demo.resolve("demo", None, demo_cache)
    corpus = read_corpus(path)
    assert sorted(corpus.label_names) == sorted(THUCNEWS_CLASSES)
    sample = {f"{name}/{number}.txt": text for name, number, text in documents(demo.PER_CLASS, demo.SEED)}
    assert sorted(corpus.sources) == sorted(sample)
    rows = range(0, len(corpus.sources), 400)
    assert [text.strip() for text in corpus.texts(list(rows))] == [sample[corpus.sources[row]].strip() for row in rows]


def test_the_model_is_a_bert_whose_fast_tokenizer_knows_every_character(demo_cache):
    from transformers import AutoTokenizer, BertModel

    _, model = demo.resolve("demo", None, demo_cache)
    bert, loading = BertModel.from_pretrained(model, add_pooling_layer=False, output_loading_info=True)
    assert not any(loading.values())
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert tokenizer.is_fast
    assert len(tokenizer) == bert.config.vocab_size == len(bert.get_input_embeddings().weight)
    assert bert.config.max_position_embeddings >= 512
    for _, _, text in documents(20, 0):
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]
    assert len((Path(model) / "vocab.txt").read_text(encoding="utf-8").splitlines()) == len(tokenizer)


def test_the_same_seed_builds_the_same_bytes_whatever_the_number_of_threads(tmp_path):
    import torch

    threads = torch.get_num_threads()
    try:
        for folder, count in (("one", 1), ("two", 2)):
            torch.set_num_threads(count)
            demo.build(tmp_path / folder, per_class=12, steps=2)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    first, second = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert first == second
    assert "bert/model.safetensors" in first
    demo.build(tmp_path / "other", per_class=12, steps=2, seed=1)
    assert digests(tmp_path / "other")["bert/model.safetensors"] != first["bert/model.safetensors"]


def test_pretraining_teaches_the_model_to_tell_masked_characters(tmp_path):
    import torch
    from transformers import BertConfig, BertForMaskedLM

    from twostage.demo import bert as demo_bert

    texts = ["国足客场告负", "楼盘均价回落", "新片首映遇冷"] * 30
    tokenizer = demo_bert.write_vocabulary(texts, _folder(tmp_path / "bert"))
    encoded = tokenizer(texts)["input_ids"]
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), initializer_range=demo_bert.START, **demo_bert.SHAPE)
    model = BertForMaskedLM(config).eval()
    hidden = torch.tensor(encoded[0])
    hidden[2] = demo_bert.MASK

    def told() -> int:
        return model(hidden[None]).logits[0, 2].argmax().item()

    demo_bert.pretrain(model, encoded, steps=60)
    assert told() == encoded[0][2]


def test_masking_hides_about_three_in_ten_characters_and_no_special_token():
    import torch

    from twostage.demo import bert as demo_bert

    torch.manual_seed(0)
    tokens = torch.randint(5, 500, (64, 60))
    tokens[:, 0], tokens[:, -1] = 2, 3
    shown, chosen = demo_bert.mask(tokens, 500)
    assert not chosen[:, 0].any() and not chosen[:, -1].any()
    assert chosen[:, 1:-1].float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(shown[~chosen], tokens[~chosen])
    assert (shown[chosen] == demo_bert.MASK).float().mean().item() == pytest.approx(0.8, abs=0.05)


def test_only_the_bare_word_is_the_demo(tmp_path):
    for corpus in ("./demo", "somewhere/demo", "demo/", "Demo", "news"):
        assert demo.resolve(corpus, None, tmp_path) == (Path(corpus), "bert-base-chinese")
    assert demo.resolve("news", "a/model", tmp_path) == (Path("news"), "a/model")
    assert not any(tmp_path.iterdir())


def test_the_demo_refuses_another_model_before_it_builds_anything(tmp_path):
    with pytest.raises(BadInput, match="leave out --model"):
        demo.resolve("demo", "bert-base-chinese", tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_demos_own_model_may_be_named(demo_cache):
    model = str(demo_cache / "demo" / "bert")
    assert demo.resolve("demo", model, demo_cache) == demo.resolve("demo", None, demo_cache)


def test_a_ready_demo_is_reused_without_torch_or_transformers(demo_cache):
    before = {path: path.stat().st_mtime_ns for path in demo_cache.rglob("*")}
    code = (
        "import sys; from twostage.demo.corpus_and_bert import resolve; print(*resolve('demo', None, sys.argv[1]));"
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = run_python(code, demo_cache)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{demo_cache}/demo/THUCNews {demo_cache}/demo/bert", "[]"]
    assert done.stderr == ""
    assert {path: path.stat().st_mtime_ns for path in demo_cache.rglob("*")} == before


def test_a_demo_of_an_older_edition_is_built_anew(tmp_path):
    demo.build(tmp_path / "demo", per_class=2, steps=1)
    (tmp_path / "demo" / "edition").write_text("0\n")
    (tmp_path / "demo" / "THUCNews" / "old.txt").write_text("old")
    demo.build(tmp_path / "demo", per_class=2, steps=1)
    assert demo.is_ready(tmp_path / "demo")
    assert not (tmp_path / "demo" / "THUCNews" / "old.txt").exists()


def test_a_killed_build_leaves_nothing_under_the_name_and_the_next_one_succeeds(tmp_path):
    code = BUILD.format(steps=10**6)
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "demo"], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".demo.*.partial/THUCNews")) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert list(tmp_path.glob(".demo.*.partial")) and not (tmp_path / "demo").exists()
    demo.build(tmp_path / "demo", per_class=2, steps=1)
    assert demo.is_ready(tmp_path / "demo") and [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert len(list((tmp_path / "demo" / "THUCNews").rglob("*.txt"))) == len(documents(2, 0))


def test_an_interrupted_build_cleans_up_behind_itself(tmp_path, monkeypatch):
    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "write_demo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.build(tmp_path / "demo", per_class=2, steps=1)
    assert not list(tmp_path.iterdir())


def test_two_processes_build_it_once(tmp_path):
    """The second waits for the lock, finds a demo and leaves it alone."""
    code = BUILD.format(steps=5)
    both = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path / "demo"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    logs = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], logs
    assert sum("pretraining" in log for log in logs) == 1
    assert demo.is_ready(tmp_path / "demo")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="--cache-dir"):
        demo.resolve("demo", None, tmp_path)


def test_a_lock_that_cannot_be_taken_names_the_option(tmp_path):
    (tmp_path / "demo.lock").mkdir()
    with pytest.raises(BadInput, match="cannot be locked: Is a directory; give a --cache-dir that can be written to"):
        demo.resolve("demo", None, tmp_path)


def test_a_file_in_place_of_the_cache_folder_is_refused(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(BadInput, match="--cache-dir"):
        demo.resolve("demo", None, tmp_path / "cache")


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
