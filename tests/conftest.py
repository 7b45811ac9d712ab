"""Small real parts that many tests share: a tiny BERT with its tokenizer, and a tiny corpus."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: tests that send Ctrl-C want it heard
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).resolve().parent.parent
CHARACTERS = (
    "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学么之都好"
    "看起发当没成只如事把还用第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱老因很给名法间斯知"
    "世什两次使身者被高已亲其进此话常与活正感见明问力理尔点文几定本公特做外孩相西果走将月十实向声车全信重三机工物气每并别真打"
    "太新比才便夫再书部水像眼等体却加电主界门利海受听表德少克代员许稜先口由死安写性马光白或住难望教命花结乐色更拉东神记处让母"
    "父应直字场平报友关放至张认接告入笑内英军候民岁往何度山觉路带万男边风解叫任金快原吃妈变通师立象数四失满战远格士音轻目条呢"
    "球赛票房股"
)


def run_script(*args, cwd=ROOT, timeout=300, **env) -> subprocess.CompletedProcess:
    """Run `python args...` from the project's root, as a user would; text output, both streams captured."""
    return subprocess.run(
        [sys.executable, *map(str, args)], cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=timeout,
        env={**os.environ, **env},
    )  # fmt: skip


def expect_refusal(result: subprocess.CompletedProcess, *parts: str) -> str:
    """Check that a script refused bad input as promised: exit 2, one line that holds `parts`, nothing on standard output."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    line = result.stderr.strip().split("\n")[-1]
    for part in parts:
        assert part in line, line
    return line


def make_bert(folder: Path, *, hidden=32, layers=2, heads=2, seed=0, positions=128, characters=CHARACTERS) -> Path:
    """A tiny real BertModel with seeded weights and a single-character vocabulary, saved as a transformers folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *sorted(set(characters)),
        *"abcdefghijklmnopqrstuvwxyz0123456789",
    ]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(BertConfig(
            vocab_size=len(vocabulary), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=4 * hidden, max_position_embeddings=positions,
        ))  # fmt: skip
    model.save_pretrained(folder)
    return folder


def make_texts(classes: int, per_class: int, seed: int = 0, length=(5, 40)) -> list[tuple[str, int]]:
    """Seeded (text, class) pairs: each class prefers its own slice of the characters, so that a head can learn them."""
    import random

    rng = random.Random(seed)
    alphabet = sorted(set(CHARACTERS))
    pairs = []
    for i in range(classes * per_class):
        label = i % classes
        own = alphabet[label * 12 : label * 12 + 12]
        text = "".join(rng.choice(own if rng.random() < 0.5 else alphabet) for _ in range(rng.randint(*length)))
        pairs.append((text, label))
    return pairs


def make_tree(folder: Path, classes=("体育", "财经", "科技"), per_class: int = 40, seed: int = 0) -> Path:
    """A THUCNews-shaped tree: folder/<class>/<n>.txt."""
    for i, (text, label) in enumerate(make_texts(len(classes), per_class, seed)):
        path = folder / classes[label] / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def aloud():
    """Tests call a script's main() without cli.run, and read what it says."""
    from twostage.progress import spoken

    with spoken():
        yield


@pytest.fixture(autouse=True)
def signals_as_before():
    """cli.run takes the signals for good, and ignores them once a script is interrupted: processes of later tests would too."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    return make_bert(tmp_path_factory.mktemp("model") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_tree(tmp_path_factory) -> Path:
    return make_tree(tmp_path_factory.mktemp("corpus") / "news")


def calibrated(saved):
    """What predict says of the test documents of a predictions.npz: its probabilities, their logits divided by the temperature."""
    sharper = saved["probabilities"].astype(float) ** (1 / float(saved["temperature"]))
    return sharper / sharper.sum(1, keepdims=True)


def read_json(path: Path) -> dict:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def pytest_collection_modifyitems(items):
    """Tests marked `gpu` run where there is one, or on the device that TWOSTAGE_TEST_DEVICE names."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or "TWOSTAGE_TEST_DEVICE" in os.environ:
        return
    import torch

    for item in marked if not torch.cuda.is_available() else ():
        item.add_marker(pytest.mark.skip(reason="no GPU here"))
