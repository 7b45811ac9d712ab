"""The seven named recipes and what was published for them.

A digit k after B (BERT) or C (classifier) is the number of zeros after the decimal point of the learning rate:
3 is 0.0001 = 1e-4, 4 is 0.00001 = 1e-5. A part that is not named is frozen.
"""

from dataclasses import dataclass, replace

from twostage.errors import BadInput

DIGIT_RULE = (
    "the digit is the number of zeros after the decimal point of the learning rate: 3 is 0.0001 = 1e-4, 4 is 0.00001 = 1e-5"
)
BATCH_SIZE = 64
LOWEST_RATE, HIGHEST_RATE = 1e-12, 1e3  # below the lowest no weight moves in float32
PUBLISHED_HIDDEN_SIZE = 768  # of the published experiment's BERT, bert-base-chinese
ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}
THUCNEWS_CLASSES = tuple(
    ["体育", "娱乐", "家居", "彩票", "房产", "教育", "时尚", "时政", "星座", "游戏", "社会", "科技", "股票", "财经"]
)


@dataclass(frozen=True)
class Recipe:
    """What is trained, at which rates, for how long. A rate of None means frozen; published accuracies are by epoch, 0 to 1."""

    name: str
    head: str
    encoder_lr: float | None
    head_lr: float | None
    epochs: int
    script: str
    published: tuple[float, ...]
    published_memory_gb: float


RECIPES = {
    r.name: r
    for r in (
        Recipe("1C3", "1C", None, 1e-4, 8, "train_head.py", (0.578, 0.703, 0.594, 0.781, 0.734, 0.828, 0.828, 0.812), 2.37),
        Recipe("1C4", "1C", None, 1e-5, 6, "train_head.py", (0.219, 0.359, 0.391, 0.359, 0.484, 0.359), 2.37),
        Recipe("3C4", "3C", None, 1e-5, 6, "train_head.py", (0.578, 0.594, 0.766, 0.672, 0.766), 2.37),
        Recipe("3C4-big", "3C-big", None, 1e-5, 6, "train_head.py", (0.469, 0.672, 0.688, 0.859, 0.859, 0.875), 2.37),
        Recipe("B4C3", "1C", 1e-5, 1e-4, 4, "finetune.py", (0.984, 0.953, 0.953, 1.0), 20.9),
        Recipe("B4C4", "1C", 1e-5, 1e-5, 4, "finetune.py", (0.969, 1.0, 0.969, 0.984), 20.9),
        Recipe("B4", "1C", 1e-5, None, 4, "finetune.py", (0.984, 0.969, 0.969, 0.984), 20.58),
    )
}


def find_recipe(name: str, script: str) -> Recipe:
    """The recipe of that name. BadInput: unknown (names the known, explains the digit), or another script's (names it)."""
    if name not in RECIPES:
        raise BadInput(f"unknown recipe {name!r}: the recipes are {', '.join(RECIPES)} ({DIGIT_RULE})")
    if RECIPES[name].script != script:
        raise BadInput(f"recipe {name} does not belong to {script}: run it with {RECIPES[name].script} --recipe {name}")
    return RECIPES[name]


def base_of(name: str | None) -> Recipe | None:
    """The recipe that a run of this name follows, whatever the scale of its rates: 1C4 for 1C4-x100."""
    return RECIPES.get(str(name or "").partition("-x")[0])


def of_thucnews(label_names: list[str]) -> bool:
    """Whether these are the 14 THUCNews classes: published figures belong beside no others."""
    return sorted(label_names) == sorted(THUCNEWS_CLASSES)


def recipes_of(script: str) -> list[str]:
    """The names of the recipes that a script runs, in the order of the published table."""
    return [name for name, recipe in RECIPES.items() if recipe.script == script]


def check_rates(rates, of: str = "a learning rate") -> None:
    """BadInput for a rate that nothing can be trained with; None is no rate."""
    for rate in rates:
        if rate is not None and not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise BadInput(f"{of} of {rate:g}: give one from {LOWEST_RATE:g}, below which no weight moves, to {HIGHEST_RATE:g}")


def scaled(recipe: Recipe, scale: float) -> Recipe:
    """The recipe with its learning rates times `scale`, and a name that says so: 1C4-x100. A scale of 1 changes nothing.

    BadInput where that makes a rate that nothing can be trained with.
    """
    if scale == 1:
        return recipe

    def times(rate: float | None) -> float | None:
        return None if rate is None else float(f"{rate * scale:.12g}")

    encoder_lr, head_lr = times(recipe.encoder_lr), times(recipe.head_lr)
    check_rates((encoder_lr, head_lr), f"--lr-scale {scale:g} gives {recipe.name} a learning rate")
    return replace(recipe, name=f"{recipe.name}-x{scale:g}", encoder_lr=encoder_lr, head_lr=head_lr)
