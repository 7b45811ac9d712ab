"""Imported once by the server that tests fork their processes from: what every one of them would do anew.

Nothing here may start a thread.
"""

import os
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = (
    "false"  # threads that are started here are missing in every child, which would wait for them
)

import torch  # noqa: E402
import torch.distributed.launcher.api  # noqa: E402, F401

import twostage.api.extraction  # noqa: E402, F401
import twostage.api.finetuning  # noqa: E402, F401
import twostage.demo.corpus_and_bert  # noqa: E402, F401
from tests.conftest import make_bert  # noqa: E402
from twostage.encoder.encoder import load_bert, load_tokenizer  # noqa: E402

torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as folder:
    load_bert(make_bert(Path(folder) / "bert"))
    load_tokenizer(Path(folder) / "bert")
