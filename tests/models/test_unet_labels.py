from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from ddpm_cli.errors import ShapeError

if TYPE_CHECKING:
    from conftest import MakeUnet


def test_prediction_depends_on_the_class(make_unet: MakeUnet) -> None:
    network = make_unet(num_classes=3)
    x, t = torch.randn(1, 1, 8, 8).expand(4, -1, -1, -1), torch.full((4,), 7)
    outputs = network(x, t, torch.arange(4))
    for one in range(4):
        for other in range(one):
            assert (outputs[one] - outputs[other]).abs().max() > 1e-3


def test_no_labels_stand_for_the_null_label(make_unet: MakeUnet) -> None:
    network = make_unet(num_classes=3)
    for t in (torch.tensor([3, 500]), torch.tensor([3.0, 500.0])):
        x = torch.randn(2, 1, 8, 8)
        assert torch.equal(network(x, t), network(x, t, torch.tensor([3, 3])))
        assert not torch.equal(network(x, t), network(x, t, torch.tensor([0, 0])))


def test_the_null_label_has_a_vector_of_its_own(make_unet: MakeUnet) -> None:
    """With all labels hidden the classes' vectors get no gradient, and without any hidden the null label's gets none."""
    network = make_unet(num_classes=3)
    assert network.label_embedding is not None
    weight = network.label_embedding.weight
    for labels, reached in ((torch.tensor([3, 3]), [3]), (torch.tensor([0, 2]), [0, 2])):
        network.zero_grad()
        network(torch.randn(2, 1, 8, 8), torch.tensor([3, 500]), labels).square().sum().backward()
        assert weight.grad is not None
        assert weight.grad.abs().sum(1).nonzero().flatten().tolist() == reached


def test_images_of_a_batch_keep_their_own_class(make_unet: MakeUnet) -> None:
    network = make_unet(num_classes=3)
    x, t, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 10, 500, 999]), torch.tensor([2, 0, 3, 1])
    together = network(x, t, labels)
    for i in range(4):
        alone = network(x[i : i + 1], t[i : i + 1], labels[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)


def test_a_network_without_classes_refuses_labels(make_unet: MakeUnet) -> None:
    with pytest.raises(ShapeError, match="no class labels"):
        make_unet()(torch.randn(1, 1, 8, 8), torch.tensor([3]), torch.tensor([0]))


def test_classes_leave_the_other_parameters_as_they_are(make_unet: MakeUnet) -> None:
    plain, conditional = make_unet().state_dict(), make_unet(num_classes=3).state_dict()
    assert conditional.keys() - plain.keys() == {"label_embedding.weight"}
    assert conditional["label_embedding.weight"].shape == (4, 32)
