import torch

from tadkit.config import BmnSettings
from tadkit.models.heads.bmn import BmnHead, GraphLayer, nearest_steps


def test_neighbours_are_the_most_similar_steps() -> None:
    x = torch.tensor([[[0.0, 9.0, 0.1, 9.2, 5.0]]])
    near = nearest_steps(x, torch.ones(1, 5, dtype=torch.bool), 2)[0]
    assert [set(steps) for steps in near.tolist()] == [{0, 2}, {1, 3}, {0, 2}, {1, 3}, {1, 4}]


def test_masked_steps_are_never_neighbours_and_missing_ones_are_filled_with_the_step_itself() -> None:
    x = torch.tensor([[[0.0, 1.0, 0.0, 0.0]]])
    near = nearest_steps(x, torch.tensor([[True, True, False, False]]), 6)
    assert near.shape == (1, 4, 6)
    assert set(near[0, 0].tolist()) == {0, 1}
    assert set(near[0, 1].tolist()) == {0, 1}


def test_similar_steps_interact_at_any_distance_but_padding_never_does() -> None:
    torch.manual_seed(0)
    layer = GraphLayer(4, neighbours=2, groups=2)
    x = torch.randn(1, 4, 30)
    x[..., 25] = x[..., 3] + 0.01
    mask = torch.ones(1, 30, dtype=torch.bool)
    moved = x.clone()
    moved[..., 25] += 0.02
    changed = (layer(moved, mask) - layer(x, mask)).abs().amax(dim=1)[0]
    assert changed[3] > 0
    padded = layer(torch.cat((x, torch.zeros(1, 4, 5)), dim=2), torch.arange(35)[None] < 30)
    torch.testing.assert_close(padded[..., :30], layer(x, mask))
    assert (padded[..., 30:] == 0).all()


def test_the_boundary_matching_head_takes_graph_layers() -> None:
    settings = BmnSettings(dim=8, map_dim=4, roi_dim=6, durations=6, samples=3, graph_layers=2)
    head = BmnHead(settings, in_channels=5, num_classes=3)
    predictions = head(torch.randn(2, 5, 12), torch.ones(2, 12, dtype=torch.bool))
    predictions.confidence.sum().backward()
    assert len(head.graph) == 2
    assert all(parameter.grad is not None for parameter in head.graph.parameters())
