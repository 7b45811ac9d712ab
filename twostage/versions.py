"""Versions of what computes, for run.json and a cache's facts."""

import platform
from importlib.metadata import PackageNotFoundError, version

from twostage import __version__


def versions() -> dict[str, str]:
    """{"twostage": "0.2.0", "python": ..., "torch": ...}; a package that is not installed is left out."""
    found = {"twostage": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "numpy", "h5py"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
