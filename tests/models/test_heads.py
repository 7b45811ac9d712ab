import pytest
import torch
from torch import nn

from twostage.errors import BadInput
from twostage.models.head import build_head, linear_layers, load_head, save_head
from twostage.runs.shuffle import epoch_order


def test_a_head_starts_where_nn_linear_starts_from_the_same_seed():
    torch.manual_seed(3)
    expected = nn.Linear(8, 4)
    assert torch.equal(build_head("1C", 8, 4, seed=3)[0].weight, expected.weight)


def test_building_a_head_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    build_head("3C", 8, 4, seed=5)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("head", "sizes"),
    [("1C", [(768, 14)]), ("3C", [(768, 1536), (1536, 768), (768, 14)]), ("3C-big", [(768, 3072), (3072, 768), (768, 14)])],
)
def test_the_shapes_are_the_published_ones(head, sizes):
    assert [(layer.in_features, layer.out_features) for layer in linear_layers(build_head(head, 768, 14))] == sizes


def test_a_saved_head_answers_as_before(tmp_path):
    head = build_head("3C", 8, 3, "gelu", seed=1)
    config = {"head": "3C", "hidden_size": 8, "activation": "gelu", "label_names": ["体育", "财经", "<b>"]}
    save_head(tmp_path, head, config)
    loaded, read = load_head(tmp_path)
    x = torch.randn(5, 8)
    assert torch.equal(loaded(x), head(x))
    assert read == config


@pytest.mark.parametrize("damage", ["missing", "shape", "json"])
def test_a_damaged_head_is_refused_in_one_line(tmp_path, damage):
    config = {"head": "1C", "hidden_size": 8, "activation": "relu", "label_names": ["a", "b"]}
    save_head(tmp_path, build_head("1C", 8, 3 if damage == "shape" else 2), config)
    if damage == "missing":
        (tmp_path / "head.safetensors").unlink()
    if damage == "json":
        (tmp_path / "config.json").write_text("{")
    with pytest.raises(BadInput, match="no usable head|config.json: cannot be read as JSON"):
        load_head(tmp_path)


def test_the_order_of_an_epoch_depends_on_the_seed_and_the_epoch_alone():
    assert torch.equal(epoch_order(50, 1, 2), epoch_order(50, 1, 2))
    assert sorted(epoch_order(50, 1, 2).tolist()) == list(range(50))
    assert not torch.equal(epoch_order(50, 1, 2), epoch_order(50, 1, 3))
    assert not torch.equal(epoch_order(50, 1, 2), epoch_order(50, 2, 2))
