"""Write a network as an ONNX graph, for onnxruntime and the many programs that read the format."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.io.files import atomic_write
from ddpm_cli.core.io.paths import text_alias
from ddpm_cli.errors import RequestError

FORMAT, EXTRA = "The format onnx", "interop"
COUNTER = "step_index"
LARGEST_FILE = 2**31 - 1
"""Bytes; Google's protocol buffers, which the format is made of, end there."""


def save_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], output: str, path: Path, metadata: Mapping[str, str], *, half: bool = False
) -> None:
    """Write a module as one file with a batch of any size.

    Args:
        module: On the CPU and in evaluation mode, called with the inputs in their order.
        inputs: Examples by name, each with the batch as its first dimension, of at least 2 images.
        output: Name of the result.
        path: File to create or replace, as a whole; its folder must exist.
        metadata: Text by name, stored in the graph.
        half: Store as float16 what that can hold exactly, which rounded weights are; the graph computes in float32 all the same.
    Raises:
        RequestError: If a package is missing, or the file would be larger than the format allows.
        OutputError: If the file cannot be written; what was there before stays.
    """
    atomic_write(path, _bytes(_graph(module, inputs, output, metadata), half))


def save_onnx_loop(
    step: nn.Module,
    count: int,
    inputs: Mapping[str, Tensor],
    output: str,
    path: Path,
    metadata: Mapping[str, str],
    *,
    half: bool = False,
) -> None:
    """Write a graph that repeats a step, as one file; see save_onnx for what is not said here.

    result = x;  for i in range(count): result = step(result, i, ...)

    Args:
        step: Called with x, then i, int64 without dimensions, then the other inputs.
        count: How often.
        inputs: x and the others, without i.
        output: Name of the result.
        path: See save_onnx.
        metadata: See save_onnx.
        half: See save_onnx.
    """
    (state, *others) = inputs
    of_step = {state: inputs[state], COUNTER: torch.tensor(0), **{name: inputs[name] for name in others}}
    atomic_write(path, _bytes(_looped(_graph(step, of_step, "next", metadata), state, count, output), half))


def _looped(proto: Any, state: str, count: int, output: str) -> Any:
    """Turn the graph of a step in place into one with a Loop whose body is the step; weights stay outside of the body."""
    from onnx import TensorProto, helper

    graph, (result,) = proto.graph, proto.graph.output
    values = {value.name: value for value in graph.input}
    shape = values[state].type
    body = helper.make_graph(
        [helper.make_node("Identity", ["again"], ["go_on"]), *graph.node],
        "step",
        [
            helper.make_tensor_value_info(COUNTER, TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_value_info(state, shape),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), helper.make_value_info(result.name, shape)],
    )
    outside = f"{state}_T"
    constants = [
        helper.make_tensor("loop_count", TensorProto.INT64, [], [count]),
        helper.make_tensor("loop_start", TensorProto.BOOL, [], [True]),
    ]
    looped = helper.make_graph(
        [helper.make_node("Loop", ["loop_count", "loop_start", outside], [output], body=body)],
        "sampler",
        [helper.make_value_info(outside, shape), *(value for name, value in values.items() if name not in (state, COUNTER))],
        [helper.make_value_info(output, shape)],
        [*graph.initializer, *constants],
    )
    graph.CopyFrom(looped)
    return proto


def _graph(module: nn.Module, inputs: Mapping[str, Tensor], output: str, metadata: Mapping[str, str]) -> Any:
    """The module as an ONNX model in memory; inputs without dimensions are scalars, the others have the batch first."""
    require_packages(FORMAT, EXTRA, "onnx", "onnxscript")  # which torch imports
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's own exporter, about its own parts
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple({0: batch} if value.ndim else None for value in inputs.values()),
            dynamo=True,
            optimize=False,  # what is folded can no longer be halved, and onnxruntime folds when it loads
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    proto = program.model_proto
    for name, text in metadata.items():
        proto.metadata_props.add(key=name, value=text)
    for node in proto.graph.node:
        node.ClearField("metadata_props")  # where in torch's and our source it came from, larger than the node itself
    return proto


def _halve(graph: Any) -> None:
    """Store constants as float16 where that changes none of their values; a Cast gives them back their names."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values, name = numpy_helper.to_array(tensor), tensor.name
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if np.array_equal(halves.astype(np.float32), values):
            tensor.CopyFrom(numpy_helper.from_array(halves, f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _bytes(proto: Any, half: bool) -> bytes:
    if half:
        _halve(proto.graph)
    if proto.ByteSize() > LARGEST_FILE:
        raise RequestError(
            f"The graph would have {proto.ByteSize() / 1e9:.1f} GB, and an ONNX file can have 2.1.",
            "Try half precision, or another format.",
        )
    content: bytes = proto.SerializeToString()
    return content


def load_onnx(path: Path, inputs: Sequence[str]) -> Callable[..., Tensor]:
    """Load the graph in onnxruntime on the CPU, to be called with the inputs in their order.

    Raises:
        RequestError: If onnxruntime is missing.
    """
    require_packages(FORMAT, EXTRA, "onnxruntime")
    import onnxruntime

    with text_alias(path) as alias:
        session = onnxruntime.InferenceSession(str(alias), providers=["CPUExecutionProvider"])

    def run(*values: Tensor) -> Tensor:
        (result,) = session.run(None, dict(zip(inputs, (value.numpy() for value in values), strict=True)))
        return torch.from_numpy(result)

    return run
