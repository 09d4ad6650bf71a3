from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch.profiler import ProfilerActivity, profile

from ddpm_cli.errors import ConfigError, ShapeError
from ddpm_cli.interop.diffusers.dit import to_dit
from ddpm_cli.models.base import recompute_blocks
from ddpm_cli.models.cost import parameter_count
from ddpm_cli.models.dit import DiT

OPTIONS: dict[str, Any] = {
    "in_channels": 1,
    "image_size": (8, 8),
    "patch_size": 2,
    "width": 16,
    "depth": 2,
    "heads": 2,
    "mlp_ratio": 4.0,
    "registers": 0,
    "dropout": 0.0,
}
X, T = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 500])


def make_dit(*, randomise: float = 0.2, **changes: Any) -> DiT:
    """A small DiT; what is added at random replaces the zeros that new networks have, so that every part matters."""
    torch.manual_seed(0)
    network = DiT(**OPTIONS | changes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += randomise * torch.randn_like(parameter)
    return network.eval()


@pytest.mark.parametrize(("patch_size", "classes"), [(2, 5), (4, 5), (2, None)])
def test_same_weights_give_what_diffusers_gives(patch_size: int, classes: int | None) -> None:
    """Steps are few: the sines of late ones differ by 5e-5, as each library rounds their phases in its own way."""
    network = make_dit(
        in_channels=3, out_channels=6, image_size=(16, 16), patch_size=patch_size, width=32, depth=3, num_classes=classes
    )
    oracle = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=3,
        out_channels=6,
        num_layers=3,
        sample_size=16,
        patch_size=patch_size,
        num_embeds_ada_norm=classes or 1,
        norm_eps=1e-6,
    ).eval()
    oracle.load_state_dict(to_dit(network.state_dict()))
    x, t = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    labels = torch.tensor([0, 1, 4, 5]) if classes else None
    with torch.no_grad():
        expected = oracle(x, t, torch.zeros_like(t) if labels is None else labels).sample
        assert expected.std() > 0.1
        torch.testing.assert_close(network(x, t, labels), expected, rtol=0, atol=1e-5 * float(expected.std()))
        late = torch.full_like(t, 999)
        expected = oracle(x, late, torch.zeros_like(t) if labels is None else labels).sample
        torch.testing.assert_close(network(x, late, labels), expected, rtol=0, atol=1e-3 * float(expected.std()))


def test_peebles_and_xies_small_network_has_its_number_of_parameters() -> None:
    """DiT-S, 33 million (Tab. 1): patches of 2, four channels of latents, a learned variance, ImageNet's classes."""
    with torch.device("meta"):
        sizes = {"in_channels": 4, "out_channels": 8, "image_size": (32, 32), "width": 384, "depth": 12, "heads": 6}
        network = DiT(**OPTIONS | sizes | {"num_classes": 1000})
    assert (
        parameter_count(network)
        == 12 * (18 * 384**2 + 15 * 384) + 640 * 384 + 2 * 384 + 1001 * 384 + 17 * 384 + 2 * 384**2 + 2 * 384 + 385 * 32
        == 32_865_056
    )


@pytest.mark.parametrize("changes", [{}, {"registers": 3}, {"num_classes": 4}, {"patch_size": 1}])
def test_new_network_predicts_exactly_zero(changes: dict[str, Any]) -> None:
    network = make_dit(randomise=0.0, **changes)
    assert not network(X, T).any()


@pytest.mark.parametrize("image_size", [(1, 1), (2, 6), (9, 3), (5, 7)])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_any_size_that_patches_divide(image_size: tuple[int, int], in_channels: int) -> None:
    patch_size = 3 if image_size == (9, 3) else 2 if image_size == (2, 6) else 1
    network = make_dit(image_size=image_size, patch_size=patch_size, in_channels=in_channels, out_channels=2 * in_channels)
    output = network(torch.randn(2, in_channels, *image_size), T)
    assert output.shape == (2, 2 * in_channels, *image_size)
    assert output.isfinite().all()


def test_a_patch_is_written_where_it_was_read() -> None:
    """Without blocks each patch sees itself alone."""
    network = make_dit(depth=0, image_size=(4, 6))
    x = torch.zeros(1, 1, 4, 6)
    changed = x.clone()
    changed[0, 0, 2:4, 4:6] = 1.0
    difference = (network(changed, T[:1]) - network(x, T[:1])).abs()[0, 0]
    assert difference[2:4, 4:6].min() > 0
    difference[2:4, 4:6] = 0
    assert not difference.any()


@pytest.mark.parametrize("changes", [{}, {"registers": 2}])
def test_gradient_reaches_every_parameter(changes: dict[str, Any]) -> None:
    network = make_dit(**changes, num_classes=3)
    network(X, T, torch.tensor([0, 1])).square().sum().backward()
    untouched = [name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    # A bias of the keys adds the same to all scores of a query, which the softmax takes out again.
    assert [name for name in untouched if not name.endswith("attention.key.bias")] == []


def test_prediction_depends_on_noise_level_class_and_augmentation() -> None:
    network = make_dit(num_classes=3)
    network.take_augmentation(2)
    plain = network(X, T)
    assert torch.equal(network(X, T, torch.tensor([3, 3])), plain)  # the null label
    assert torch.equal(network(X, T, None, torch.zeros(2, 2)), plain)
    torch.nn.init.ones_(network.augmentation_embedding.weight)
    others = (
        network(X, T + 100),
        network(X, T.float() + 0.5),
        network(X, T, torch.tensor([0, 1])),
        network(X, T, None, torch.ones(2, 2)),
    )
    assert all((other - plain).abs().max() > 1e-3 for other in others)


def test_images_of_a_batch_do_not_mix() -> None:
    network = make_dit(registers=2)
    x, t = torch.randn(5, 1, 8, 8), torch.tensor([0, 10, 100, 500, 999])
    together = network(x, t)
    for i in range(5):
        torch.testing.assert_close(network(x[i : i + 1], t[i : i + 1])[0], together[i], atol=1e-5, rtol=1e-5)


def test_registers_change_what_is_predicted_and_are_no_pixels() -> None:
    with_them, without = make_dit(registers=4), make_dit()
    without.load_state_dict({name: weight for name, weight in with_them.state_dict().items() if name != "registers"})
    found, plain = with_them(X, T), without(X, T)
    assert found.shape == plain.shape
    assert (found - plain).abs().max() > 1e-3


def test_weights_fit_images_of_any_size() -> None:
    small, large = make_dit(), make_dit(image_size=(16, 4))
    large.load_state_dict(small.state_dict())
    assert large(torch.randn(2, 1, 16, 4), T).shape == (2, 1, 16, 4)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputing_changes_no_gradient(dropout: float) -> None:
    network = make_dit(dropout=dropout, registers=1).train()
    gradients = []
    for recompute in (False, True):
        recompute_blocks(network, recompute)
        network.zero_grad()
        torch.manual_seed(2)
        network(X, T).square().sum().backward()
        gradients.append(network.blocks[0].attention.query.weight.grad.clone())
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


def test_dropout_is_for_training_and_takes_a_state() -> None:
    network = make_dit(dropout=0.5)
    assert torch.equal(network(X, T), network(X, T))
    assert not network.stateless
    assert make_dit().stateless
    network.train()
    assert not torch.equal(network(X, T), network(X, T))


@pytest.mark.parametrize(
    ("changes", "message", "remedy"),
    [
        ({"patch_size": 3}, "model.patch_size (3) does not divide images of 8x8", "Choose from 1, 2, 4, 8,"),
        (
            {"image_size": (12, 18), "patch_size": 4},
            "model.patch_size (4) does not divide images of 12x18",
            "from 1, 2, 3, 6, or let",
        ),
        ({"heads": 3}, "model.heads (3) does not divide model.width (16)", "Choose a divisor of 16"),
        ({"width": 18}, "model.width (18) is no multiple of 4", "Set it to 20"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make_dit(**changes)
    assert message in refused.value.message
    assert remedy in refused.value.remedy


@pytest.mark.parametrize("shape", [(2, 1, 8, 6), (2, 3, 8, 8)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"takes images of \[C, H, W\] = \[1, 8, 8\]"):
        make_dit()(torch.randn(shape), T)


def test_half_precision_autocast_stays_close() -> None:
    network = make_dit()
    exact = network(X, T)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(X, T)
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_attention_takes_the_fused_kernel_on_a_cpu(memory_format: torch.memory_format) -> None:
    """Where the channels of a head do not lie side by side, torch leaves it without a word and is 2.6 times slower."""
    network = make_dit(registers=1, depth=3).to(memory_format=memory_format).train()
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        network(X, T).sum().backward()
    calls = {event.key: event.count for event in trace.key_averages()}
    assert calls["aten::_scaled_dot_product_flash_attention_for_cpu"] == 3
    assert calls["aten::_scaled_dot_product_flash_attention_for_cpu_backward"] == 3
    assert "aten::_scaled_dot_product_attention_math" not in calls
    assert not {"aten::_softmax", "aten::_safe_softmax"} & calls.keys()


def test_it_is_one_graph_to_the_compiler() -> None:
    network = make_dit(registers=1, num_classes=3)
    whole = torch.compile(network, backend="eager", fullgraph=True, dynamic=False)
    labels = torch.tensor([0, 1])
    torch.testing.assert_close(whole(X, T, labels), network(X, T, labels))
