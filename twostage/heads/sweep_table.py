"""What a sweep prints: accuracy by learning rate for each head, and the chosen trial."""

from pathlib import Path

from twostage.heads.sweep import PER_DECADE, settings_of
from twostage.heads.training import trial_of
from twostage.heads.views import chosen_lines, views_table
from twostage.recipes import BATCH_SIZE, HIGHEST_RATE, LOWEST_RATE, RECIPES
from twostage.runs.hints import open_edge, plateau


def wider(lrs: list[float], best: float) -> list[float] | None:
    """Rates beyond the edge of the grid on which the best one sits: a decade further; None when it sits inside."""
    lrs = sorted(lrs)
    if len(lrs) < 2 or best not in (lrs[0], lrs[-1]):
        return None
    sign = 1 if best == lrs[-1] else -1
    beyond = [float(f"{best * 10 ** (sign * i / PER_DECADE):.3g}") for i in range(PER_DECADE + 1)]
    return sorted(x for x in beyond if LOWEST_RATE <= x <= HIGHEST_RATE) or None


def published(lr: float, head: str) -> str:
    """What to say beside a rate at which heads were published: the recipe of this shape, if there is one."""
    rates = {r.head_lr for r in RECIPES.values() if r.encoder_lr is None}
    names = [r.name for r in RECIPES.values() if r.encoder_lr is None and (r.head_lr, r.head) == (lr, head)]
    return "" if lr not in rates else f"published: {', '.join(names)}" if names else "published for other heads"


def sweep_table(record: dict, cache: Path | str) -> str:
    """For each head shape (and batch size and weight decay): mean and spread over seeds by rate; then the chosen trial."""
    if record.get("views"):
        return views_table(record)
    lines, settings = [], settings_of([trial_of(entry) for entry in [*record["trials"], *record["diverged"]]])
    n_seeds = len(settings[0].trials)
    lines.append(
        f"accuracy on the whole val split ({record['n_val']:,} documents) at the best epoch, "
        f"mean and standard deviation over {n_seeds} seed{'s' * (n_seeds > 1)}"
    )
    for key in dict.fromkeys(s.key for s in settings):
        mine = [s for s in settings if s.key == key]
        top = max(mine, key=lambda s: s.rank)
        title = f"{key[0]}, batch {key[1]}, weight decay {key[2]:g}" + ", standardized vectors" * key[3]
        lines += ["", title, "       lr  val accuracy        best epoch"]
        for s in mine:
            remark = published(s.lr, key[0]) if key[1] == BATCH_SIZE and not key[3] else ""
            remark = "   ".join(filter(None, ["<- best" if s is top else "", remark]))
            bar = "#" * round(20 * s.accuracy)
            lines.append(f"{s.lr:9.3g}  {s.accuracy:.3f} ±{s.deviation:.3f}  {s.epochs:>15}  {bar:20} {remark}".rstrip())
        further, points = wider([s.lr for s in mine], top.lr), [(s.lr, s.accuracy) for s in mine]
        flat = plateau(points, record["n_val"])
        if flat:
            lines.append(f"rates from {flat[0]:g} to {flat[1]:g} do equally well, within one standard error")
        elif further and open_edge(points, record["n_val"]):
            rates = " ".join(f"{x:g}" for x in further) + " --standardize" * key[3]
            lines.append(
                f"the best rate is at the edge of the grid; extend it: python train_head.py {cache} --sweep --head {key[0]} --lr {rates}"
            )
    lines += chosen_lines(record)
    last = record["epochs"][-1]["epoch"]
    if record["best_epoch"] == last:
        lines.append(f"the best epoch is the last of {last}: train longer, with --epochs {2 * last}")
    return "\n".join(lines)
