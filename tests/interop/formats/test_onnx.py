"""Graphs as onnxruntime runs them."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from trained_models import trained_dit, trained_model

from ddpm_cli.errors import RequestError
from ddpm_cli.interop.formats.onnx import write_onnx, write_onnx_sampler
from ddpm_cli.interop.half import rounded
from ddpm_cli.interop.onnx_graph import load_onnx


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


def stored_bytes(path: Path) -> Counter[int]:
    """Bytes of the constants in a file, by their type."""
    found: Counter[int] = Counter()
    for tensor in onnx.load(path).graph.initializer:
        found[tensor.data_type] += len(tensor.raw_data)
    return found


def test_a_model_that_was_told_of_augmentation_is_asked_of_images_as_they_are(folder: Path) -> None:
    model = trained_model("data.augment=0.1")
    (comparison,) = write_onnx(model, folder / "told.onnx", half=False)
    assert comparison.holds
    names = {tensor.name for tensor in onnx.load(folder / "told.onnx").graph.input}
    assert names == {"x", "t"}


def test_half_of_the_bytes_and_any_batch(folder: Path) -> None:
    model, _ = rounded(trained_model("model.stem=2", "model.attention_resolutions=[4]", shape=(1, 7, 6)))
    path = folder / "denoiser.onnx"
    (comparison,) = write_onnx(model, path, half=True)
    assert comparison.holds
    run = load_onnx(path, ["x", "t"])
    x, t = torch.randn(5, 1, 7, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 3, 7, 10, 11])
    expected = model.network(x, t)
    assert expected.std() > 0.1
    assert torch.allclose(run(x, t), expected, atol=1e-5)
    weights = sum(weight.numel() for weight in model.network.parameters())
    assert 2 * weights <= stored_bytes(path)[onnx.TensorProto.FLOAT16] < 2.1 * weights
    assert stored_bytes(path)[onnx.TensorProto.FLOAT] < 0.1 * weights
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert metadata["ddpm_dtype"] == "float16"
    assert json.loads(metadata["ddpm"])["image_shape"] == [1, 7, 6]


def test_the_whole_of_ddim_with_labels_and_guidance(folder: Path) -> None:
    """With Karras' levels, of which the network is told real steps; those of trailing spacing go out by the command."""
    spacing = ("sample.sampler=ddim", "sample.sampler.spacing=karras")
    model = trained_model("model.num_classes=3", "sample.guidance.scale=2", "sample.guidance.rescale=0.5", *spacing)
    path = folder / "sampler.onnx"
    (comparison,) = write_onnx_sampler(model, path, 5, half=False)
    assert comparison.difference < 1e-4
    onnx.checker.check_model(onnx.load(path), full_check=True)
    run = load_onnx(path, ["x_T", "labels"])
    x_T = torch.randn(4, 1, 8, 12, generator=torch.Generator().manual_seed(2))
    images = run(x_T, torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 1, 8, 12)
    assert not torch.allclose(images, run(x_T, torch.tensor([1, 1, 2, 0])), atol=1e-3)


def test_what_the_graph_cannot_hold_is_refused(folder: Path) -> None:
    model = trained_model("sample.sampler.kind=ddim", "sample.sampler.eta=0.5")
    with pytest.raises(RequestError, match=r"eta 0\.5"):
        write_onnx_sampler(model, folder / "none.onnx", 5, half=False)
    guided = trained_model("model.num_classes=3", "sample.guidance.interval=[0.1,2]")
    with pytest.raises(RequestError, match="interval"):
        write_onnx_sampler(guided, folder / "none.onnx", 5, half=False)
    with pytest.raises(RequestError, match="from 1 to 12"):
        write_onnx_sampler(trained_model(), folder / "none.onnx", 13, half=False)
    large = trained_model()
    large.network.conv_in.bias.fill_(1e5)
    with pytest.raises(RequestError, match="65,504"):
        rounded(large)
    assert not (folder / "none.onnx").exists()


def test_a_missing_package_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(RequestError, match=r"onnxscript.*pip install 'ddpm-cli\[interop\]'"):
        write_onnx(trained_model(), folder / "none.onnx", half=False)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 alone")
def test_a_graph_whose_name_is_no_utf8(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([node], "same", ends[:1], ends[1:])
    path = tmp_path / os.fsdecode(b"caf\xe9.onnx")
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())
    assert load_onnx(path, ["x"])(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]


def test_a_transformer_is_written_too(folder: Path) -> None:
    model = trained_dit("model.registers=2", "model.num_classes=3", "objective.loss=hybrid")
    (comparison,) = write_onnx(model, folder / "transformer.onnx", half=False)
    assert comparison.holds
    assert comparison.difference < 1e-5
