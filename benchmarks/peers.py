"""What extract_speed.py compares with: plain transformers, sentence-transformers, OpenVINO, and this project at another commit.

Each is a function that gives encode(texts) -> vectors (N, D), or with the seconds that another process took.
"""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from twostage.encoder.batching import sorted_batches
from twostage.encoder.checkpoint import read_config
from twostage.encoder.encoder import load_bert, load_tokenizer


def exact(folder: Path, texts: list[str], max_length: int) -> np.ndarray:
    """[CLS] of BertModel in float32, one document at a time: (N, D)."""
    tokenizer, model, rows = load_tokenizer(folder), load_bert(folder), []
    for text in texts:
        with torch.inference_mode():
            rows.append(
                model(**tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")).last_hidden_state[0, 0]
            )
    return torch.stack(rows).numpy()


class FirstToken(torch.nn.Module):
    """[CLS] alone, so that OpenVINO can leave out what it does not need."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]


def openvino(folder: Path, dtype: torch.dtype, max_length: int, tokens_per_batch: int = 2048):
    """OpenVINO as it is fastest: two streams, asynchronous, sorted by length, padded to the longest of a batch."""
    import openvino as ov

    tokenizer = load_tokenizer(folder)
    example = torch.ones(2, 16, dtype=torch.int64)
    with warnings.catch_warnings(action="ignore"):  # of the trace
        model = ov.convert_model(FirstToken(load_bert(folder)), example_input={"input_ids": example, "attention_mask": example})
    precision = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": "2"})

    def encode(texts):
        ids = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
        vectors, queue = np.empty((len(texts), read_config(folder)["hidden_size"]), np.float32), ov.AsyncInferQueue(compiled, 2)
        queue.set_callback(lambda request, rows: vectors.__setitem__(rows, request.get_output_tensor().data))
        for rows in sorted_batches(np.array([len(one) for one in ids]), tokens_per_batch):
            longest = max(len(ids[row]) for row in rows)
            padded, mask = np.zeros((2, len(rows), longest), np.int64)
            for at, row in enumerate(rows):
                padded[at, : len(ids[row])], mask[at, : len(ids[row])] = ids[row], 1
            queue.start_async({"input_ids": padded, "attention_mask": mask}, rows)
        queue.wait_all()
        return vectors

    return encode


ELSEWHERE = """
import json, pathlib, sys, time
sys.path.insert(0, sys.argv[1])
import numpy as np
try:
    from twostage.encoder.encoder import Encoder
except ImportError:
    from twostage.encoder import Encoder
encoder = Encoder(pathlib.Path(sys.argv[2]), max_length=int(sys.argv[3]), device=sys.argv[4], dtype=sys.argv[5])
for line in sys.stdin:
    texts, path = json.loads(line)
    start, spent = time.perf_counter(), time.process_time()
    vectors, *_ = encoder.encode(texts)
    print(time.perf_counter() - start, time.process_time() - spent, flush=True)
    np.save(path, vectors)
    print(flush=True)
"""


def another_commit(checkout: Path, folder: Path, device: str, dtype: str, max_length: int, place: Path):
    """The same texts by the code of another checkout, whose process waits between its turns."""
    argv = [sys.executable, "-c", ELSEWHERE, str(checkout), str(folder), str(max_length), device, dtype]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(texts):
        process.stdin.write(json.dumps([texts, str(place / "beside.npy")]) + "\n")
        process.stdin.flush()
        seconds, spent = map(float, process.stdout.readline().split())
        process.stdout.readline()
        return seconds, spent, np.load(place / "beside.npy")

    return run, process


def sentence_transformers(folder: Path, device: str, dtype: torch.dtype, max_length: int, batch: int):
    from sentence_transformers import SentenceTransformer

    try:
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    except ImportError:  # before 6
        from sentence_transformers.models import Pooling, Transformer
    options = {"dtype": dtype, "attn_implementation": "sdpa"}
    words = Transformer(str(folder), max_seq_length=max_length, model_kwargs=options)
    pooling = Pooling(read_config(folder)["hidden_size"], pooling_mode="cls")
    model = SentenceTransformer(modules=[words, pooling], device=device)
    return lambda texts: model.encode(texts, batch_size=batch, show_progress_bar=False)


def padded_loop(folder: Path, device: str, dtype: torch.dtype, max_length: int, batch: int):
    """What most people write: batches in dataset order, padded, all of the last layer."""
    tokenizer, model = load_tokenizer(folder), load_bert(folder).to(device, dtype)

    def encode(texts):
        rows = []
        for first in range(0, len(texts), batch):
            part = texts[first : first + batch]
            inputs = tokenizer(part, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
            with torch.inference_mode():
                rows.append(model(**inputs.to(device)).last_hidden_state[:, 0].float().cpu())
        return torch.cat(rows).numpy()

    return encode
