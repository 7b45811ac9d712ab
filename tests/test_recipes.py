import pytest

from twostage.errors import BadInput
from twostage.recipes import RECIPES, THUCNEWS_CLASSES, find_recipe, recipes_of, scaled


def test_the_digit_counts_zeros_and_is_not_the_exponent():
    rates = {name: (r.encoder_lr, r.head_lr) for name, r in RECIPES.items()}
    assert rates == {
        "1C3": (None, 1e-4),
        "1C4": (None, 1e-5),
        "3C4": (None, 1e-5),
        "3C4-big": (None, 1e-5),
        "B4C3": (1e-5, 1e-4),
        "B4C4": (1e-5, 1e-5),
        "B4": (1e-5, None),
    }


def test_each_script_has_its_recipes_with_the_published_epochs():
    assert {name: RECIPES[name].epochs for name in recipes_of("train_head.py")} == {
        "1C3": 8, "1C4": 6, "3C4": 6, "3C4-big": 6,
    }  # fmt: skip
    assert {name: RECIPES[name].epochs for name in recipes_of("finetune.py")} == {"B4C3": 4, "B4C4": 4, "B4": 4}


def test_every_published_figure_is_a_multiple_of_a_64th():
    for recipe in RECIPES.values():
        assert 0 < len(recipe.published) <= recipe.epochs
        for figure in recipe.published:
            assert abs(figure * 64 - round(figure * 64)) < 0.04


def test_an_unknown_recipe_is_answered_with_the_known_ones_and_the_digit_rule():
    with pytest.raises(BadInput, match="1C3, 1C4.*zeros after the decimal point"):
        find_recipe("1C5", "train_head.py")


def test_a_recipe_of_the_other_script_names_that_script():
    with pytest.raises(BadInput, match=r"finetune\.py --recipe B4"):
        find_recipe("B4", "train_head.py")


def test_scaling_multiplies_every_rate_and_shows_in_the_name():
    recipe = scaled(RECIPES["B4C3"], 100)
    assert (recipe.name, recipe.encoder_lr, recipe.head_lr) == ("B4C3-x100", 1e-3, 1e-2)
    assert scaled(RECIPES["B4"], 2.5).head_lr is None
    assert scaled(RECIPES["1C4"], 2.5).name == "1C4-x2.5"
    assert scaled(RECIPES["1C4"], 1) is RECIPES["1C4"]


def test_the_14_classes_of_thucnews_are_named():
    assert len(set(THUCNEWS_CLASSES)) == 14
