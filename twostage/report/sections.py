"""The report's sections about results: one function each, from a group of runs on one test set to HTML, or "" for nothing to show."""

from twostage.recipes import RECIPES
from twostage.report.figures import cost_chart, epoch_chart, label_chart, rate_chart, rate_series
from twostage.report.page import figure, prose, section, table, td, text, th
from twostage.report.words import acc, interval, memory, paired_p, per_minute, points, rate, rates, seconds, verdict
from twostage.runs.views import Group, RunView, has_published


def verdict_section(group: Group, extraction: float | None) -> str:
    r = group.best.record
    n = {k: f"{r[k]:,}" for k in ("n_train", "n_val", "n_test") if r.get(k) is not None}
    facts = [f"{len(group.label_names)} classes"]
    facts += [
        f"{n[k]} documents to {what}"
        for k, what in (("n_train", "train"), ("n_val", "choose the epoch"), ("n_test", "test"))
        if k in n
    ]
    facts += dict(group.best.setting).get("max_length", "").split("|") if "max_length" in dict(group.best.setting) else []
    said = "".join(f"<p>{prose(line)}</p>" for line in verdict(group, extraction))
    return f'<div class="verdict">{said}</div><p class="facts">{text(" · ".join(facts))}</p>'


def recipe_section(group: Group) -> str:
    """The seven recipes by epoch: ours on the whole val split, published figures in grey beside them where they belong."""
    shown, published = group.columns, has_published(group)
    columns = [(name, run) for name in RECIPES for run in ([r for r in shown if r.base == name] or [None])]
    if not shown:
        return ""
    if not published:
        columns = [(name, run) for name, run in columns if run]
    span = ' colspan="2"' if published else ""
    first, second = [th("", "first")], [th("epoch", "first")]
    for name, run in columns:
        first.append(th(run.record["recipe"] if run else name, "n start", span, sub=_subtitle(group, run)))
        second.append(th("ours", "n soft start") if published else th("val", "n soft start"))
        second += [th("publ.", "n soft")] if published else []
    last = max([e for _, r in columns if r for e, _ in r.curve] + [len(RECIPES[n].published) for n, _ in columns if published])
    rows = []
    for epoch in range(1, last + 1):
        row = [td(epoch, "first")]
        for name, run in columns:
            found = dict(run.curve).get(epoch) if run else None
            chosen = " best" if found is not None and epoch == run.record["best_epoch"] else ""
            row.append(td(acc(found) if found is not None else "", f"n start{chosen}"))
            if published:
                known = RECIPES[name].published
                row.append(td(acc(known[epoch - 1]) if epoch <= len(known) else "", "n soft"))
        rows.append(row)

    def line(title, value, grey=lambda name: ""):
        cells = [th(title, "first")]
        for name, run in columns:
            cells.append(td(value(run) if run else "–", "n start"))
            cells += [td(grey(name), "n soft")] if published else []
        return cells

    foot = [
        line("test accuracy", lambda r: acc(r.accuracy)),
        line("95 % interval from", lambda r: acc(r.interval[0])),
        line("to", lambda r: acc(r.interval[1])),
        line("macro-F1", lambda r: acc(r.record["test_macro_f1"])),
        line("optimizer steps", lambda r: f"{r.record['steps']:,}" if r.record.get("steps") is not None else "–"),
        line("time", lambda r: seconds(r.seconds)),
        line(
            "peak memory, GB",
            lambda r: memory(r.record.get("peak_memory_bytes")),
            lambda n: f"{RECIPES[n].published_memory_gb:g}",
        ),
    ]
    about = [
        "Accuracy on the whole val split after each epoch. The epoch in colour was the highest and chosen; test was scored once, for it.",
        "B is BERT, C the classifier; what is not named is frozen. The digit counts the zeros of the rate: 3 is 1e-4, 4 is 1e-5.",
    ]
    if published:
        about.append(
            "Grey: the published experiment. Each of its figures is a multiple of 1/64, read off one batch: about ±10 points at 0.8. "
            "How many steps it trained was not published. Context, not a target."
            + (
                " It used the rates of the names, not the scaled ones."
                if any(r.record["recipe"] != r.base for r in shown)
                else ""
            )
        )
    return section(
        "The seven recipes by epoch",
        about,
        table(["".join(first), "".join(second)], rows, kind="recipes full" if len(columns) > 5 else "recipes", foot=foot),
        wide=True,
    )


def _subtitle(group: Group, run: RunView | None) -> str:
    if run is None:
        return "not run"
    other = "" if run.record["recipe"] == run.name else run.name
    seeds = f"mean of {len(run.trials)} seeds" if run.trials else ""
    return "\n".join(filter(None, (*rates(run).split(", "), other, seeds, group.differs(run))))


def epoch_section(group: Group) -> str:
    if all(r.is_ceiling for r in group.complete):
        return ""
    about = [
        "Accuracy on val after each epoch, for the newest run of each recipe and the best run of all others. "
        "All accuracy axes are stretched towards 1: equal distances divide the error by equal factors."
    ]
    return section("Accuracy by epoch", about, figure(lambda size: epoch_chart(group, size)))


def rate_section(group: Group) -> str:
    """Accuracy over the learning rate, from sweeps and from whatever head runs differ in their rate."""
    series = rate_series(group)
    if not series:
        return ""
    best = group.frozen
    at_edge = [s for s in series if s.points and max(s.points, key=lambda p: p[1])[0] in (s.points[0][0], s.points[-1][0])]
    about = [
        "Accuracy on val of each head's best epoch, over its learning rate; the band spans the seeds, the line is their mean."
    ]
    if any(s.accent for s in series):
        about.append(f"Chosen on val: {rate(best.record['head_lr'])}. Dashed: the published rates.")
    about += [f"{s.label} is best at the edge of its range: sweep further before trusting it." for s in at_edge]
    return section("Learning rate of the head", about, figure(lambda size: rate_chart(group, series, size)))


def cost_section(group: Group, extraction: float | None) -> str:
    """What each run took against what it reached, as a chart and a table."""
    published = has_published(group)
    head = [th("run"), th("learning rate"), th("test accuracy", "n"), th("95 % interval", "n"), th("macro-F1", "n")]
    head += [th("time", "n"), th("memory, GB", "n")] + ([th("published", "n soft")] if published else [])
    rows = []
    for r in sorted(group.complete, key=lambda r: -r.accuracy):
        grey = f"{RECIPES[r.base].published_memory_gb:g}" if r.base else ""
        chosen = "n best" if r is group.best else "n"
        name = r.name + (f" ({len(r.trials)} trials)" if r.swept else "")
        rows.append(
            [
                th(name, sub=group.differs(r)),
                td(rates(r)),
                td(acc(r.accuracy), chosen),
                td(interval(r), "n"),
                td(acc(r.record["test_macro_f1"]), "n"),
            ]
            + [td(seconds(r.seconds), "n"), td(memory(r.record.get("peak_memory_bytes")), "n")]
            + ([td(grey, "n soft")] if published else [])
        )
    about = [
        "Test accuracy with its 95 % interval, over the time of the whole run. Heads read cached vectors: "
        "their time leaves out the one extraction" + (f", which took {seconds(extraction)}." if extraction else "."),
        "Memory is the GPU's where there was one, else that of the whole process.",
    ]
    if published:
        about.append(
            "Published GPU memory at batch 64: BERT and classifier 20.9 GB, BERT alone 20.58 GB, classifier alone 2.37 GB."
        )
    return section("Cost against accuracy", about, figure(lambda size: cost_chart(group, size)) + table(["".join(head)], rows))


def paired_section(group: Group) -> str:
    """Each fine-tuned run against the best frozen one on the same test documents."""
    tuned = [r for r in group.complete if r.finetuned]
    if not tuned or not group.frozen:
        return ""
    frozen = group.frozen
    head = [
        th("fine-tuned"),
        th("accuracy", "n"),
        th("difference", "n"),
        th("McNemar p", "n"),
        th("extra time", "n"),
        th("points a minute", "n"),
    ]
    rows = []
    for r in sorted(tuned, key=lambda r: -r.accuracy):
        gain, extra, p = r.accuracy - frozen.accuracy, r.seconds - frozen.seconds, paired_p(frozen, r)
        sign = "+" if gain > 0 else "−" if gain < 0 else "±"
        rows.append(
            [th(r.name), td(acc(r.accuracy), "n"), td(f"{sign}{points(gain)} points", "n")]
            + [td("–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}", "n"), td(seconds(max(extra, 0)), "n")]
            + [td(per_minute(gain, extra), "n")]
        )
    about = [
        f"Against the best frozen run, {frozen.name} ({acc(frozen.accuracy)}, {seconds(frozen.seconds)}), on the same test documents.",
        "McNemar's test asks whether chance alone would make two runs differ that much. It looks only at documents that one has "
        "right and the other wrong.",
    ]
    return section("Frozen against fine-tuned", about, table(["".join(head)], rows))


def ceiling_section(group: Group) -> str:
    """How far the heads stay below the best possible one-layer head on the same vectors."""
    if not group.ceiling:
        return ""
    best = group.ceiling.accuracy
    heads = sorted((r for r in group.complete if not r.finetuned and not r.is_ceiling), key=lambda r: -r.accuracy)
    rows = []
    for r in heads:
        gap = best - r.accuracy
        said = "at the ceiling" if abs(gap) < 0.01 else f"{points(gap)} points {'below' if gap > 0 else 'above'}"
        rows.append([th(r.name), td(rates(r)), td(acc(r.accuracy), "n"), td(said)])
    head = [th("run"), th("learning rate"), th("test accuracy", "n"), th(f"against {acc(best)}")]
    about = [
        f"The regularised optimum of a one-layer head on these vectors reaches {acc(best)} ({interval(group.ceiling)}) on test. "
        "A one-layer head that stays well below it has the wrong rate or too few steps: the features are not to blame."
    ]
    return section("Ceiling", about, table(["".join(head)], rows) if rows else "")


def label_section(group: Group) -> str:
    """What more labelled documents bring, from the newest run that holds a learning curve."""
    run = next((r for r in reversed(group.complete) if r.record.get("learning_curve")), None)
    if run is None:
        return ""
    before, last = sorted(run.record["learning_curve"], key=lambda part: part["n_train"])[-2:]
    gain = last["mean"] - before["mean"]
    about = [
        f"The head of {run.name} on parts of train, for as many steps as on all of it; the band spans the seeds. The last step, from "
        f"{before['n_train']:,} to {last['n_train']:,} documents, brought {'−' if gain < 0 else '+'}{points(gain)} points."
    ]
    return section("Would more labels help?", about, figure(lambda size: label_chart(run, size)))
