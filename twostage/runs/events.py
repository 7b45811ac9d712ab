"""TensorBoard's event files beside metrics.jsonl, for those who ask for them. The package tensorboard is not one of ours."""

from pathlib import Path

from twostage.errors import BadInput


def require_tensorboard() -> None:
    """BadInput where the package is missing: asked before any work."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise BadInput(
            "--tensorboard needs the package tensorboard: pip install tensorboard, or leave the option out"
        ) from None


class Events:
    """The event file of a run: a point an epoch for each figure; in a run of several trials, a line a trial."""

    def __init__(self, folder: Path):
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def add(self, lines: list[dict]) -> None:
        """Lines of metrics.jsonl."""
        for line in lines:
            trial = f"/trial {line['index']}" if "index" in line else ""
            for name, value in line.items():
                if name not in ("epoch", "index") and isinstance(value, int | float):
                    self.writer.add_scalar(f"{name}{trial}", value, line["epoch"])
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def remove_events(folder: Path) -> None:
    """What an interrupted run had written: a resumed one writes its epochs anew."""
    for path in folder.glob("events.out.tfevents.*"):
        path.unlink()
