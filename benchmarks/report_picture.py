"""The pictures of the report in docs/: its first screen in light and dark, by the system's Chromium.

make demo && python benchmarks/report_picture.py runs/report.html     on an idle machine: its times stand in the picture
"""

import base64
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.report.browser import Browser  # noqa: E402

WIDTH, HEIGHT = 1280, 1440


def main(page: str) -> None:
    with Browser() as browser:
        for theme, name in (("light", "report.png"), ("dark", "report-dark.png")):
            browser.open(Path(page).resolve(), WIDTH, theme)
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
            shot = browser.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
            (Path("docs") / name).write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main(sys.argv[1])
