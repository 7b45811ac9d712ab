"""Stage 1 as calls: a corpus goes through a frozen encoder once, and its vectors land in a cache file for each view."""

import time
from pathlib import Path

from twostage import ranks
from twostage.api.arguments import held, held_with, several
from twostage.cache.identity import Identity, cache_path
from twostage.cache.reader import FeatureCache, open_cache, read_facts, verify_cache
from twostage.cache.writer import CacheWriter, opened
from twostage.corpus import reader
from twostage.corpus.audit import audit as audit_documents
from twostage.corpus.layout import recognise
from twostage.corpus.reader import Corpus
from twostage.demo import corpus_and_bert as demo
from twostage.encoder.checkpoint import find_model, model_name, read_config
from twostage.encoder.encoder import emulated, load_tokens, resolve_device, resolve_dtype
from twostage.encoder.remarks import remarks
from twostage.encoder.settings import check_view, encoder_settings
from twostage.errors import BadInput
from twostage.extraction.crew import Crew, serve
from twostage.extraction.job import Extraction
from twostage.progress import say, spoken

READING = ("text", "label", "split", "per_class", "encoding", "on_undecodable", "name")  # settings of read_corpus


def extract(corpus, *, progress: bool = False, **settings) -> FeatureCache | list[FeatureCache]:
    """Encode every text of a corpus once and return the cache, complete and verified; one found complete is opened again.

    For a list of poolings or of layers a list of caches, one for each of their pairs (all poolings of the first layer, then those of
    the next), out of one pass; each is what it would be alone.

    corpus: a Corpus, or whatever `read_corpus` takes, whose keyword arguments may then stand here too. Further settings,
    with their defaults: model ("bert-base-chinese"; a folder or hub name), max_length (512 tokens), truncation ("head"), prefix (""),
    pooling ("cls"), layer (-1, the last), store_dtype ("float16"), device ("auto"), dtype ("auto": what the hardware is fast at),
    tokens_per_batch (None), cache_dir ("cache"). Interrupted, the same call goes on where it stopped. Where another machine of many
    does not see the cache folder, its ranks get None, or an empty list.

    BadInput: the corpus, the model or a setting cannot be used; a full disk; a certificate beyond its bound.
    """
    # torchrun may have started several: the first does everything but encode
    paths = serve(lambda: own(corpus, **settings)) if ranks.rank() else fill_caches(corpus, progress, settings)
    listed = any(several(settings.get(name)) for name in ("pooling", "layer"))
    caches = [open_cache(path) for path in paths if not ranks.rank() or Path(path).exists()]
    return caches if listed else caches[0] if caches else None


def fill_caches(corpus, progress: bool, settings: dict) -> list[str]:
    """Make the caches that are not complete yet; the paths of all that were asked for."""
    with spoken(progress), Crew() as crew:
        job = prepare(corpus, **settings)
        job.crew = crew
        job.say_what_differs()
        # From here on the space is reserved, and what is committed stays whatever happens.
        with opened(job.writers):
            for writer in job.writers:
                if writer.finished:
                    say(f"complete already: {writer.path}")
                    if not read_facts(writer.path):  # a kill came between the cache and what stands beside it
                        job.write_facts(writer)
            if left := [writer for writer in job.writers if not writer.finished]:
                job.fill(left)
                job.check_unchanged()
                job.publish()
        crew.caches = [str(writer.path) for writer in job.writers]
        return crew.caches


def plan(corpus, **settings) -> list[str]:
    """What `extract` with the same arguments would do and cost, as lines; a sample is timed and nothing is written."""
    return [] if ranks.rank() else prepare(corpus, **settings).plan_only()


@held_with(reader.read_corpus)
def prepare(
    corpus,
    *,
    model: str | Path | None = None,
    max_length: int = 512,
    truncation: str = "head",
    prefix: str = "",
    pooling: str | list[str] = "cls",
    layer: int | list[int] = -1,
    store_dtype: str = "float16",
    device: str = "auto",
    dtype: str = "auto",
    tokens_per_batch: int | None = None,
    cache_dir: str | Path = "cache",
    **reading,
) -> Extraction:
    """Everything that decides the caches, checked before any model work: the model's folder first, since a corpus takes longer."""
    source, model = resolve(corpus, model, cache_dir)
    folder = find_model(model)
    poolings, layers = _each("pooling", pooling), _each("layer", layer)
    views = [(pooling, layer) for layer in layers for pooling in poolings]
    for view in views:
        check_view(folder, *view)
    tokens = load_tokens(folder, max_length, truncation, prefix)
    for line in remarks(folder, tokens.backend, poolings):
        say(line)
    began = time.time()
    corpus = read(source, **reading)

    device = resolve_device(device)
    compute_dtype, writers = resolve_dtype(dtype, device), []
    for line in emulated(compute_dtype, device):
        say(line)
    settings = encoder_settings(
        folder, max_length=max_length, truncation=truncation, pooling=poolings[0], compute_dtype=compute_dtype, prefix=prefix
    )
    for pooling, layer in views:
        identity = Identity(
            encoder=settings | {"pooling": pooling, "layer": str(layer)},
            store_dtype=store_dtype,
            hidden_size=read_config(folder)["hidden_size"],
            label_names=corpus.label_names,
            digest=corpus.digest,
            label=corpus.label,
            split=corpus.split,
            sources=corpus.sources,
        )
        writers.append(CacheWriter(cache_path(cache_dir, corpus.name, model_name(model), identity), identity))
    return Extraction(folder, tokens, corpus, writers, device, tokens_per_batch, began)


def _each(name: str, values) -> list:
    """A setting that may be a list, as one; BadInput where it says something twice."""
    values = values if isinstance(values, list) else [values]
    if len(set(values)) < len(values):
        raise BadInput(f"--{name} {' '.join(map(str, values))}: give one value, or several different ones")
    return values


def resolve(corpus, model, cache_dir) -> tuple[object, str]:
    """(what to read, the model): the word demo means the sample and its BERT; what is no corpus is said before a model is sought."""
    if model is not None and not str(model):  # "$MODEL" where that is not set
        raise BadInput("--model is an empty name: give a BERT folder or hub name, or leave it out")
    if isinstance(corpus, Corpus):
        return corpus, str(model or corpus.model or demo.DEFAULT_MODEL)
    if isinstance(corpus, str | Path):
        if not str(corpus):  # "$CORPUS" where that is not set
            raise BadInput("CORPUS is an empty name: give a folder or file of labelled texts, or the word demo")
        corpus, model = demo.resolve(str(corpus), model and str(model), cache_dir)
        recognise(corpus)
    return corpus, str(model or demo.DEFAULT_MODEL)


def own(corpus, *, model=None, cache_dir="cache", **settings) -> tuple[Path | Corpus, Path]:
    """What rank 0's corpus and model are on another rank: the corpus by its path, or read where it lies in memory; the folder."""
    source, model = resolve(corpus, model, cache_dir)
    if not isinstance(source, str | Path | Corpus):
        source = reader.read_corpus(source, **{name: settings[name] for name in READING if name in settings})
    return (source.path or source) if isinstance(source, Corpus) else Path(source), find_model(model)


def read(source, **reading) -> Corpus:
    """The corpus that `resolve` gave, read if it is not yet, and said."""
    if isinstance(source, Corpus):
        if reading:
            raise TypeError(f"a corpus that was read already takes no {', '.join(reading)}: give them to read_corpus")
        return source
    corpus = reader.read_corpus(source, **reading)
    for line in corpus.describe():
        say(line)
    return corpus


@held_with(reader.read_corpus)
def read_corpus(source, *, cache_dir: str | Path = "cache", progress: bool = False, **reading) -> Corpus:
    """Read a labelled corpus: a path (a folder or file of any form in docs/corpora.md) or the word "demo".

    per_class (None), encoding ("utf-8-sig"), on_undecodable ("fail"); cache_dir is where the demo is built.
    Texts are read again when they are needed: the corpus holds digests, labels, splits and where each text stands.

    BadInput: no such corpus, a form that is not known, undecodable bytes, fewer than two classes.
    """
    with spoken(progress):
        source, model = resolve(source, None, cache_dir)
        corpus = read(source, **reading)
        corpus.model = model if model != demo.DEFAULT_MODEL else None
        return corpus


def faults_of(path: str | Path) -> list[str]:
    """Read a whole cache again: everything wrong with it, one line a fault; empty where it is whole."""
    return verify_cache(path)


@held
def audit(corpus: Corpus | FeatureCache):
    """What the digests of a corpus or a cache tell for free: duplicates, leaks, conflicts, small classes. See `Audit`."""
    split = corpus.split_of if isinstance(corpus, FeatureCache) else corpus.split
    truncated = corpus.truncated if isinstance(corpus, FeatureCache) else None
    return audit_documents(corpus.digest, corpus.label, split, corpus.sources, corpus.label_names, truncated=truncated)
