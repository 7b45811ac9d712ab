"""Kill real extractions at random moments: python -m tests.faults.real CORPUS --model MODEL [extract.py options]

Every attempt is a forked process that runs extract.py's main; the parent kills it after a random time. The next attempt
resumes. Whenever one comes to its end, its file is compared with that of an undisturbed run, and it starts over.
"""

import argparse
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.real", description=__doc__.split("\n")[0])
    parser.add_argument("corpus")
    parser.add_argument("--model", required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--within", type=float, help="kill in these first seconds (default: all that a run takes)")
    parser.add_argument("--window-seconds", type=float, help="commit this often (default: as extract.py does)")
    asked, further = parser.parse_known_args()
    import extract  # noqa: F401 all imports before all forks: each attempt then starts at once
    import twostage.encoder.encoder
    import twostage.extraction.job  # noqa: F401
    import twostage.extraction.windows

    if asked.window_seconds:
        twostage.extraction.windows.WINDOW_SECONDS = asked.window_seconds
    folder = Path(tempfile.mkdtemp(prefix="twostage-kills-"))
    try:
        return torture([asked.corpus, "--model", asked.model, *further], folder, asked.kills, asked.within)
    finally:
        shutil.rmtree(folder)


def torture(command: list[str], folder: Path, kills: int, within: float | None) -> int:
    start = time.monotonic()
    os.waitpid(attempt(command, folder / "whole", folder / "log"), 0)
    undisturbed = time.monotonic() - start
    whole = only_cache(folder / "whole")
    print(f"undisturbed: {undisturbed:.1f} s, {whole.stat().st_size:,} bytes", flush=True)

    chance, killed, finished, equal, found = random.Random(0), 0, 0, 0, []
    while killed < kills or finished < 1:
        pid = attempt(command, folder / "killed", folder / "log")
        limit = chance.uniform(0, within or undisturbed) if killed < kills else float("inf")
        began, ended = time.monotonic(), False
        while time.monotonic() - began < limit and not ended:
            time.sleep(0.005)
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        if ended:
            if not list((folder / "killed").glob("*.h5")):  # it failed by itself
                print((folder / "log").read_text())
                return 1
            finished += 1
            equal += only_cache(folder / "killed").read_bytes() == whole.read_bytes()
            shutil.rmtree(folder / "killed")
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            killed += 1
            time.sleep(0.1)  # for what the killed process had started
        resumed = re.search(r"resuming .*?: ([\d,]+) of", (folder / "log").read_text())
        found.append(int(resumed[1].replace(",", "")) if resumed else 0)
        print(
            f"{'finished' if ended else 'killed'} after {time.monotonic() - began:.1f} s, began with {found[-1]:,}", flush=True
        )
    print(f"{killed} kills, {sum(n > 0 for n in found)} attempts resumed, {finished} finished, {equal} of them byte-equal")
    return 0 if equal == finished else 1


def attempt(command: list[str], cache_dir: Path, log: Path) -> int:
    pid = os.fork()
    if not pid:
        import extract

        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            os._exit(extract.main([*command, "--cache-dir", str(cache_dir)]))
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
    return pid


def only_cache(folder: Path) -> Path:
    (path,) = folder.glob("*.h5")
    return path


if __name__ == "__main__":
    sys.exit(main())
