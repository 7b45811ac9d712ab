"""Small training runs that are tortured as the cache is: a head, a sweep, a fine-tuning run that resumes; the judge of what is left."""

import os
import shutil
from pathlib import Path

from twostage.errors import BadInput
from twostage.runs.folder import read_run

from .stage import COUNT, OFF, Stage, in_child

RESULTS = ("head/head.safetensors", "head/config.json", "model/model.safetensors", "model/config.json", "predictions.npz")


class Training:
    """What is trained: `work()` does what the script of its kind does, in `runs`, in this process."""

    def __init__(self, stage: Stage, kind: str):
        self.shim, self.kind, self.root = stage.shim, kind, stage.root / kind
        self.runs = self.root / "runs"
        self.root.mkdir(exist_ok=True)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # no thread may be started before all forks
        import torch

        torch.set_num_threads(1)
        self.work = {"head": self._head, "sweep": self._sweep, "fine-tuning": self._finetuning}[kind]()
        self.reset()
        assert self.run().startswith("done"), self.run()
        self.reference = self._results(self._complete()[0])
        assert len(self.reference) == 3, self.reference.keys()
        self.reset()

    def reset(self) -> None:
        shutil.rmtree(self.runs, ignore_errors=True)
        self.runs.mkdir()

    def _head(self):
        from twostage.heads.training import Common, HeadJob, train_run
        from twostage.report.build import write_report

        data, job = self._vectors(), HeadJob("1C3", "1C", 1e-2, 1, "1C3")

        def work() -> None:
            train_run(data, job, Common(self.runs))
            write_report(self.runs)

        return work

    def _sweep(self):
        from twostage.heads.sweep import Grid, run_sweep
        from twostage.heads.training import Common
        from twostage.report.build import write_report

        data, grid = self._vectors(), Grid(lrs=(1e-3, 1e-2), epochs=1)

        def work() -> None:
            run_sweep(data, grid, Common(self.runs, seeds=(0, 1)))
            write_report(self.runs)

        return work

    def _vectors(self):
        from tests.head_caches import make_cache
        from twostage.cache.reader import open_cache
        from twostage.heads.data import load

        return load(open_cache(make_cache(self.root / "x.h5", n=60, hidden=4)), "cpu")

    def _finetuning(self):
        import numpy as np

        from tests.conftest import make_bert, make_tree
        from twostage import SPLITS
        from twostage.corpus.reader import read_corpus
        from twostage.encoder.encoder import load_tokenizer
        from twostage.encoder.settings import encoder_settings
        from twostage.encoder.tokenizer import Tokens
        from twostage.finetuning.dataset import tokenize
        from twostage.finetuning.jobs import FinetuneJob, FinetuneSettings, something_to_resume
        from twostage.finetuning.run import FinetuneInputs, train_job
        from twostage.report.build import write_report

        bert = make_bert(self.root / "bert", hidden=8, layers=1)
        corpus = read_corpus(make_tree(self.root / "news", per_class=16))
        settings = encoder_settings(bert, max_length=16, truncation="head", pooling="cls", compute_dtype="float32")
        tokenizer = load_tokenizer(bert)
        tokens = Tokens(tokenizer, 16, "head")
        rows = {name: tokenize(corpus, np.flatnonzero(corpus.split == n), tokens, "") for n, name in enumerate(SPLITS)}
        inputs = FinetuneInputs(corpus, bert, tokenizer, rows, settings, "cpu", "float32")
        job = FinetuneJob("B4C3", "B4C3", "1C", 1e-3, 1e-2, 2)

        def work() -> None:
            try:
                something_to_resume(self.runs, [job])
                resume = True
            except BadInput:
                resume = False
            if resume or not self._folders():
                asked = FinetuneSettings(runs_dir=self.runs, batch_size=16, micro_batch=16, resume=resume)
                train_job(inputs, asked, job, {"corpus_digest": "d"})
            write_report(self.runs)

        return work

    def run(self, mode: int = OFF, at: int = -1, error: int = 0) -> str:
        """The work in a process of its own -> "done N", "killed", "refused: ...", or what else happened."""

        def work() -> str:
            self.shim.faults_arm(os.fsencode(self.runs), mode, at, error, False, -1, 0)
            try:
                self.work()
            except BadInput as refused:
                return f"refused: {refused}"
            finally:
                points = self.shim.faults_points()
                self.shim.faults_arm(b"", OFF, 0, 0, 0, -1, 0)
            return f"done {points}"

        return in_child(work)

    def count_points(self) -> int:
        self.reset()
        return int(self.run(COUNT).split()[1])

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.runs.iterdir() if path.is_dir() and not path.name.startswith("."))

    def _complete(self) -> list[Path]:
        return [path for path in self._folders() if read_run(path)["status"] == "complete"]

    def _results(self, run: Path) -> dict[str, bytes]:
        return {name: (run / name).read_bytes() for name in RESULTS if (run / name).exists()}

    def judge(self, acknowledged: bool, *, settled: bool = False) -> str:
        """ "ok", or what is wrong. Every run folder must tell what it is; a complete run must be whole and right; the same
        command again must end in the right results with nothing left beside them. settled: no run may still be "running"."""
        return in_child(lambda: self._judge(acknowledged, settled))

    def _judge(self, acknowledged: bool, settled: bool) -> str:
        for run in self._folders():
            try:
                status = read_run(run)["status"]
            except BadInput as error:
                return f"a run that does not tell what it is: {error}"
            if status == "complete" and self._results(run) != self.reference:
                return f"wrong: {run.name} is complete, and its results are not those of an undisturbed run"
            if settled and status == "running":
                return f"{run.name} says that it is running, and ended"
        if acknowledged and not self._complete():
            return "lost: the complete run"
        before = len(self._complete())
        self.work()
        if len(self._complete()) < max(1, before) or (self.kind == "fine-tuning" and len(self._folders()) != 1):
            return f"the same command again leaves {[run.name for run in self._folders()]}"
        for run in self._complete():
            if self._results(run) != self.reference:
                return f"wrong: the results of {run.name} after the same command again"
        left = [path for path in self.runs.rglob("*") if path.name.endswith(".partial") or path.name == "checkpoints"]
        left += [path for path in self.runs.rglob(".lock")]
        if left or not (self.runs / "report.html").exists():
            return f"left behind: {[str(path.relative_to(self.runs)) for path in left] or 'no report'}"
        return "ok"
