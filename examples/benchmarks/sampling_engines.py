"""What else could evaluate a network on a CPU, and would it be faster than torch as `ddpm sample` runs it?

    pip install onnx onnxscript onnxruntime openvino
    python examples/benchmarks/sampling_engines.py [--config examples/benchmarks/unet2d.toml --size 32] [--batch 36] [--rounds 20]

Without --config the network is that of the `quick` preset; its weights are random. All ways are timed in turn, and the lowest of
the rounds counts. With one thread (--threads 1) the processor's time is that of the work alone, whatever else the machine does,
but for what others take of its caches; with more threads compare wall time, on a machine that does nothing else. A way whose
packages or compiler are missing says so and is left out. The last column is the largest difference of a prediction from torch's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ddpm_cli.build.network import build_network
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.core.compute.allocator import keep_freed_memory
from ddpm_cli.core.compute.memory_format import place_network
from ddpm_cli.interop.onnx_graph import save_onnx

Inputs = tuple[Tensor, Tensor]
Call = Callable[[], Tensor]


def network_of(config: Path | None, shape: tuple[int, int, int]) -> nn.Module:
    torch.manual_seed(0)
    found = load_config(file=config) if config else load_config(preset="quick")
    network = build_network(found.config, shape).eval().requires_grad_(False)
    for weight in network.parameters():
        if weight.ndim > 1 and not weight.any():  # a new network predicts 0, whatever computes it
            nn.init.xavier_uniform_(weight)
    return place_network(network, torch.device("cpu"))


def as_it_is(network: nn.Module, inputs: Inputs, threads: int) -> Call:
    return lambda: network(*inputs)


def channels_first(network: nn.Module, inputs: Inputs, threads: int) -> Call:
    placed = network.to(memory_format=torch.contiguous_format)
    return lambda: placed(*inputs)


def inference_mode(network: nn.Module, inputs: Inputs, threads: int) -> Call:
    return torch.inference_mode()(lambda: network(*inputs))


def bfloat16(network: nn.Module, inputs: Inputs, threads: int) -> Call:
    return torch.autocast("cpu", torch.bfloat16)(lambda: network(*inputs))


def frozen_script(network: nn.Module, inputs: Inputs, threads: int) -> Call:
    script = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(network, inputs, check_trace=False)))
    return lambda: script(*inputs)


def compiled(network: nn.Module, inputs: Inputs, threads: int, *, freezing: bool) -> Call:
    torch.compiler.reset()
    fast = torch.compile(network, dynamic=False, options={"freezing": freezing})
    return lambda: fast(*inputs)


def onnxruntime(network: nn.Module, inputs: Inputs, threads: int) -> Call:
    import onnxruntime

    x, t = (values.numpy() for values in inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        session = onnxruntime.InferenceSession(graph(network, inputs, Path(folder)), options, providers=["CPUExecutionProvider"])
    return lambda: torch.from_numpy(session.run(None, {"x": x, "t": t})[0])


def openvino(network: nn.Module, inputs: Inputs, threads: int) -> Call:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        model = openvino.Core().read_model(graph(network, inputs, Path(folder)))
        x, t = inputs
        model.reshape({"x": list(x.shape), "t": list(t.shape)})
        exact = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        request = openvino.compile_model(model, "CPU", exact).create_infer_request()
    return lambda: torch.from_numpy(request.infer({"x": x.numpy(), "t": t.numpy()}, share_inputs=True)[0].copy())


def graph(network: nn.Module, inputs: Inputs, folder: Path) -> Path:
    x, t = inputs
    path = folder / "network.onnx"
    save_onnx(network.to(memory_format=torch.contiguous_format), {"x": x[:2], "t": t[:2]}, "prediction", path, {})
    return path


WAYS: dict[str, Callable[[nn.Module, Inputs, int], Call]] = {
    "torch": as_it_is,
    "inference mode": inference_mode,
    "channels first": channels_first,
    "frozen script": frozen_script,
    "compiled": partial(compiled, freezing=False),
    "compiled, frozen": partial(compiled, freezing=True),
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "bfloat16": bfloat16,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--batch", type=int, default=36)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    shape = (1, options.size, options.size)
    inputs = torch.randn(options.batch, *shape), torch.randint(1000, (options.batch,))
    with torch.no_grad():
        expected, calls = network_of(options.config, shape)(*inputs), {}
        for name in dict.fromkeys(["torch", *options.ways]):
            try:
                calls[name] = WAYS[name](network_of(options.config, shape), inputs, options.threads)
                calls[name]()
            except Exception as error:  # noqa: BLE001  # whatever a compiler or another library could not do
                calls.pop(name, None)
                print(f"{name}: not here ({str(error).strip().splitlines()[0]:.100})")
        taken = timed(calls, options.rounds)
        print(
            f"torch {torch.__version__}, {options.threads} thread(s), {options.batch} images; ms, and how many times torch's speed"
        )
        for name, call in calls.items():
            print(row(name, taken[name], taken["torch"], float((call() - expected).abs().max())))


def timed(calls: dict[str, Call], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of the processor and of the clock in each round after the first two."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(2 + rounds):
        for name, call in calls.items():
            processor, clock = time.process_time(), time.perf_counter()
            call()
            taken[name].append((time.process_time() - processor, time.perf_counter() - clock))
    return {name: rows[2:] for name, rows in taken.items()}


def row(name: str, its: list[tuple[float, float]], torchs: list[tuple[float, float]], difference: float) -> str:
    cells = [f"{name:20}"]
    for place, clock in enumerate(("processor", "wall")):
        here, there = ([pair[place] for pair in pairs] for pairs in (its, torchs))
        cells.append(f"{clock} {1e3 * min(here):7.1f} {min(there) / min(here):5.2f} x")
    middle = statistics.median(pair[1] for pair in torchs) / statistics.median(pair[1] for pair in its)
    return "  ".join([*cells, f"median {middle:5.2f} x", f"{difference:.1e}"])


if __name__ == "__main__":
    main()
