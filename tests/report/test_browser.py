"""The page as people see it: opened in a real browser, wide and narrow, light and dark."""

import pytest

from tests.report.browser import CHROMIUM, Browser
from tests.report.made import make_corpus, make_run
from tests.report.test_knowledge import calibration, near, suspects, views
from twostage.recipes import THUCNEWS_CLASSES
from twostage.report.build import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome is installed here")
WORST = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1)"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report with every section, 14 classes and a long name."""
    folder = tmp_path_factory.mktemp("report")
    names = list(THUCNEWS_CLASSES)
    known = make_corpus(folder, names) | {"names": names, "hidden_size": 768}
    trials = [
        {"index": i, "view": 0, "head": "1C", "head_lr": lr, "seed": 0, "epochs": [{"epoch": 1, "val_accuracy": 0.9}], "best_epoch": 1}
        for i, lr in enumerate((1e-2, 1e-5))
    ]  # fmt: skip
    curve = [{"n_train": n, "val_accuracy": [0.5, m], "mean": m} for n, m in ((8, 0.6), (80, 0.7))]
    raw = {"suspects": suspects(), "near_duplicates": near(), "calibration": calibration(), "learning_curve": curve}
    raw |= {"views": views(), "view": 0, "n_trials": 8, "trials": trials}
    make_run(folder / "runs", "1C3", recipe="1C3", head_lr=1e-4, **known)
    make_run(folder / "runs", "sweep", epochs=(0.9,), raw=raw, **known)
    make_run(folder / "runs", "ceiling", head_lr=None, epochs=(0.92,), **known)
    make_run(folder / "runs", "tfidf", script="baseline", head=None, head_lr=None, epochs=(0.8,), **known)
    make_run(folder / "runs", "B4C3-" + "x" * 60, recipe="B4C3", encoder_lr=1e-5, wrong=0, seconds=60, epochs=(0.99,), **known)
    return write_report(folder / "runs").resolve()


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_asks_for_nothing_fails_nowhere_and_fits_the_window(page, browser, width, theme):
    browser.open(page, width, theme)
    asked = [params["request"]["url"] for method, params in browser.events if method == "Network.requestWillBeSent"]
    assert asked == [page.as_uri()]
    wrong = [params for method, params in browser.events if method in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert not wrong, wrong
    assert browser.evaluate("innerWidth") == width
    too_wide = browser.evaluate(f"{WORST}.slice(0, 5).map(e => e.outerHTML.slice(0, 200))")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width, too_wide
    shown = browser.evaluate("[...document.querySelectorAll('svg')].filter(e => e.getBoundingClientRect().width > 0).length")
    assert shown == browser.evaluate("document.querySelectorAll('svg').length") / 2  # a chart for screens or one for phones
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}[theme]
