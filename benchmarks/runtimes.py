"""The runtimes that benchmarks compare: how each loads an ONNX file.  Runs in workers; all imports are lazy."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Options = dict[str, str]
CALIBRATION_BATCHES = 8


@dataclass(frozen=True)
class Loaded:
    """A model ready to run: `run` is what is timed, `output` runs once more and returns the first result."""

    run: Callable[[], object]
    output: Callable[[], Array]
    version: str


@dataclass(frozen=True)
class Runtime:
    """A way to load a model, and the arithmetic that it uses."""

    load: Callable[[Path, int, Options], Loaded]
    precision: str = "fp32"


def example(model: Path, seed: int = 1) -> tuple[str, Array]:
    """Name of the model's only input, and a standard normal batch for it."""
    import onnx

    (value,) = onnx.load(str(model), load_external_data=False).graph.input
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return value.name, np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _calibration(model: Path) -> Iterator[tuple[str, Array]]:
    return (example(model, seed) for seed in range(1, 1 + CALIBRATION_BATCHES))


def _derived(model: Path, suffix: str) -> Path:
    """Where a converted form of this very file is kept."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()[:12]
    return model.with_name(f"{model.stem}-{digest}{suffix}")


def load_onnxruntime(model: Path, threads: int, options: Options) -> Loaded:
    import onnxruntime

    name, x = example(model)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input(name, x)
    binding.bind_output(session.get_outputs()[0].name, "cpu")

    def run() -> None:
        session.run_with_iobinding(binding)

    def output() -> Array:
        run()
        return np.asarray(binding.copy_outputs_to_cpu()[0])

    return Loaded(run, output, onnxruntime.__version__)


def qdq_file(model: Path) -> Path:
    """The model after static QDQ quantisation: uint8 activations, int8 weights per channel; made on first use."""
    quantized = _derived(model, ".qdq.onnx")
    if quantized.exists():
        return quantized
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batches(quantization.CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.batches = ({name: x} for name, x in _calibration(model))

        def get_next(self) -> dict[str, Array] | None:
            return next(self.batches, None)

    prepared, unfinished = _derived(model, ".prepared.onnx"), _derived(model, ".partial.onnx")
    quant_pre_process(str(model), str(prepared))
    quantization.quantize_static(
        str(prepared),
        str(unfinished),
        Batches(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    unfinished.replace(quantized)
    prepared.unlink()
    return quantized


def load_onnxruntime_int8(model: Path, threads: int, options: Options) -> Loaded:
    return load_onnxruntime(qdq_file(model), threads, options)


def _load_openvino(network: Any, model: Path, threads: int, precision: str) -> Loaded:
    import openvino

    _, x = example(model)
    # The float type is forced: on CPUs with AMX the default would silently be bfloat16.
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = openvino.Core().compile_model(network, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x))

    def run() -> None:
        request.start_async()
        request.wait()

    def output() -> Array:
        run()
        return np.array(request.get_output_tensor().data)

    return Loaded(run, output, openvino.__version__.split("-")[0])


def load_openvino(model: Path, threads: int, options: Options) -> Loaded:
    import openvino

    return _load_openvino(openvino.Core().read_model(str(model)), model, threads, "f32")


def load_openvino_bf16(model: Path, threads: int, options: Options) -> Loaded:
    import openvino

    return _load_openvino(openvino.Core().read_model(str(model)), model, threads, "bf16")


def load_openvino_int8(model: Path, threads: int, options: Options) -> Loaded:
    """Post-training quantisation by nncf."""
    import openvino

    quantized = _derived(model, ".nncf.xml")
    if not quantized.exists():
        nncf = importlib.import_module("nncf")
        batches = nncf.Dataset([x for _, x in _calibration(model)])
        network = nncf.quantize(openvino.Core().read_model(str(model)), batches, subset_size=CALIBRATION_BATCHES)
        openvino.save_model(network, str(quantized), compress_to_fp16=False)
    return _load_openvino(openvino.Core().read_model(str(quantized)), model, threads, "f32")


def load_torch(model: Path, threads: int, options: Options, compiled: bool = False) -> Loaded:
    import torch

    from benchmarks.onnx_to_torch import to_torch

    torch.set_num_threads(threads)
    network = to_torch(model).eval().to(memory_format=torch.channels_last)
    x = torch.from_numpy(example(model)[1]).to(memory_format=torch.channels_last)
    if compiled:
        import torch._inductor.config

        torch._inductor.config.freezing = True
        torch._inductor.config.compile_threads = 1
        network = torch.compile(network)

    def run() -> Any:
        with torch.no_grad():
            return network(x)

    return Loaded(run, lambda: np.asarray(run()), torch.__version__)


def load_inductor(model: Path, threads: int, options: Options) -> Loaded:
    """oneDNN's kernels, with weights frozen and activations in channels_last."""
    return load_torch(model, threads, options, compiled=True)


def load_lhcc(model: Path, threads: int, options: Options) -> Loaded:
    """Compiles here, or loads `artifact=FILE`; the other options go to lhcc.compile."""
    import lhcc

    settings: dict[str, Any] = dict(options)
    artifact = settings.pop("artifact", None)
    if artifact is not None:
        return _load_executable(lhcc.load(artifact), model)
    target = settings.pop("target", "cpu")
    return _load_executable(lhcc.compile(str(model), target=target, threads=threads, **settings), model)


def load_lhcc_int8(model: Path, threads: int, options: Options) -> Loaded:
    """Approximates by dyadic weights, then compiles to integers only."""
    lhcc: Any = importlib.import_module("lhcc")
    batches = np.concatenate([x for _, x in _calibration(model)])
    dyadic = lhcc.approximate(str(model), calibrate=batches, **options)
    return _load_executable(lhcc.compile(dyadic, target="cpu", threads=threads, precision="int8"), model)


def load_lhcc_qdq(model: Path, threads: int, options: Options) -> Loaded:
    """Compiles the very QDQ file that ONNX Runtime runs, to integers."""
    return load_lhcc(qdq_file(model), threads, {"precision": "int8", **options})


def _load_executable(executable: Any, model: Path) -> Loaded:
    import lhcc

    _, x = example(model)

    def output() -> Array:
        y = executable(x)
        return np.asarray(y[0] if isinstance(y, tuple) else y)

    return Loaded(lambda: executable(x), output, str(getattr(lhcc, "__version__", "?")))


def load_lhcc_kernels(model: Path, threads: int, options: Options) -> Loaded:
    """The compiled model without checking and wrapping its inputs: what the generated code itself takes."""
    import lhcc

    executable = lhcc.compile(str(model), threads=threads)
    loaded = _load_executable(executable, model)
    return Loaded(executable.invoke, loaded.output, loaded.version)


def load_lhcc_c(model: Path, threads: int, options: Options) -> Loaded:
    """`library=` is the C of the model, emitted as "net" and built for sharing, `arena=` the bytes of its context."""
    import ctypes

    import lhcc
    from lhcc.runtime.memory import allocate

    run = ctypes.CDLL(options["library"]).net_run
    x, y = example(model)[1], np.full(1 << 16, np.nan, np.float32)
    context = allocate(int(options["arena"]))
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (context, x, y)]  # they keep the arrays alive

    def output() -> Array:
        run(*pointers)
        return np.array(y[: int(np.isnan(y).argmax())])

    return Loaded(lambda: run(*pointers), output, lhcc.__version__)


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime(load_onnxruntime),
    "openvino": Runtime(load_openvino),
    "inductor": Runtime(load_inductor),
    "torch": Runtime(load_torch),
    "lhcc": Runtime(load_lhcc),
    "lhcc-kernels": Runtime(load_lhcc_kernels),
    "lhcc-c": Runtime(load_lhcc_c),
    "openvino-bf16": Runtime(load_openvino_bf16, "bf16"),
    "openvino-int8": Runtime(load_openvino_int8, "int8"),
    "onnxruntime-int8": Runtime(load_onnxruntime_int8, "int8"),
    "lhcc-int8": Runtime(load_lhcc_int8, "int8"),
    "lhcc-qdq": Runtime(load_lhcc_qdq, "int8"),
}
