"""Stage 1: a corpus goes through a frozen BERT once, and one vector a document lands in a cache file.

examples:
  python extract.py demo
  python extract.py THUCNews --model bert-base-chinese --max-length 256

Prints the path of the cache and nothing else; the log goes to standard error. Interrupted, the same command continues.
"""

import sys
import time
from pathlib import Path

from twostage.cli import Parser, add_corpus_options, run, whole_number
from twostage.errors import BadInput
from twostage.progress import say


def build_parser() -> Parser:
    parser = Parser(prog="extract.py", description=__doc__)
    add_corpus_options(parser, corpus_optional=True)
    group = parser.add_argument_group("vectors")
    group.add_argument(
        "--pooling",
        choices=("cls", "pooler", "mean"),
        default="cls",
        help="a document's vector: [CLS] of the last layer, the pooler's output, the mean over its tokens (default: cls)",
    )
    group.add_argument(
        "--store-dtype",
        choices=("float16", "float32"),
        default="float16",
        help="numbers in the cache, 2 or 4 bytes each (default: float16)",
    )
    group.add_argument(
        "--tokens-per-batch",
        type=whole_number(1, "--tokens-per-batch"),
        metavar="N",
        help="tokens encoded at a time: speed and memory, on a CPU never a vector (default: 1024 a core, 65536 a GPU)",
    )
    group = parser.add_argument_group("instead of extracting")
    group.add_argument("--plan", action="store_true", help="print what would be done and what it would cost")
    group.add_argument("--verify", metavar="CACHE", type=Path, help="re-read a cache, print the verdict, exit 0 or 1")
    return parser


def main(argv=None) -> int:
    asked = build_parser().parse_args(argv)
    if asked.verify is not None:
        return verify(asked.verify)
    if asked.corpus is None:
        raise BadInput("no CORPUS: give a folder or file of labelled texts, or the word demo (see extract.py --help)")

    from twostage.cache.identity import Identity, cache_path
    from twostage.cache.writer import CacheWriter
    from twostage.corpus.layout import recognise
    from twostage.corpus.reader import read_corpus
    from twostage.demo import corpus_and_bert as demo
    from twostage.encoder import checkpoint, encoder
    from twostage.encoder.settings import encoder_settings
    from twostage.extraction import job as extraction

    # What is no corpus is said first; the model's folder is checked before the corpus is read, and that before any model work.
    corpus_path, model = demo.resolve(asked.corpus, asked.model, asked.cache_dir)
    recognise(corpus_path)
    folder = checkpoint.find_model(model)
    tokens = encoder.load_tokens(folder, asked.max_length, asked.truncation)
    began = time.time()
    corpus = read_corpus(corpus_path, per_class=asked.per_class, encoding=asked.encoding, on_undecodable=asked.on_undecodable)
    for line in corpus.describe():
        say(line)

    # What decides each vector, and with the documents in their order the cache.
    device = encoder.resolve_device(asked.device)
    settings = encoder_settings(
        folder,
        max_length=asked.max_length,
        truncation=asked.truncation,
        pooling=asked.pooling,
        compute_dtype=encoder.resolve_dtype(asked.dtype, device),
    )
    identity = Identity(
        encoder=settings,
        store_dtype=asked.store_dtype,
        hidden_size=checkpoint.read_config(folder)["hidden_size"],
        label_names=corpus.label_names,
        digest=corpus.digest,
        label=corpus.label,
        split=corpus.split,
        sources=corpus.sources,
    )
    path = cache_path(asked.cache_dir, corpus.name, checkpoint.model_name(model), identity)
    job = extraction.Extraction(folder, tokens, corpus, identity, path, device, asked.tokens_per_batch, began)
    if asked.plan:
        print("\n".join(job.plan_only()))
        return 0

    job.say_what_differs()

    # From here on the space is reserved, and what is committed stays whatever happens.
    with CacheWriter(path, identity) as writer:
        if writer.finished:
            say(f"complete already: {path}")
        else:
            job.fill(writer)
            job.check_unchanged()
            certificate = job.certify(writer)
            writer.publish()
            job.write_facts(certificate)
    print(path)
    return 0


def verify(path: Path) -> int:
    """Print what is wrong with a cache, or that nothing is."""
    from twostage.cache.reader import verify_cache

    faults = verify_cache(path)
    print("\n".join(f"{path}: {fault}" for fault in faults) or f"{path}: whole, every digest matches")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(run(main))
