from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from lhcc.errors import InputError


def test_describes_itself(conv_executable: Any) -> None:
    assert [str(spec) for spec in conv_executable.inputs] == ["x: float32[1, 3, 6, 6]"]
    assert [str(spec) for spec in conv_executable.outputs] == ["output: float32[1, 8, 6, 6]"]
    assert [layer.op for layer in conv_executable.layers] == ["conv2d"] * 3
    assert "x: float32[1, 3, 6, 6]" in repr(conv_executable)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.zeros((1, 3, 6, 7), "float32"),
            r"input 'x' is float32\[1, 3, 6, 7\], the model takes float32\[1, 3, 6, 6\]",
        ),
        (np.zeros((3, 6, 6), "float32"), r"input 'x' is float32\[3, 6, 6\]"),
        (np.zeros((1, 3, 6, 6), "float64"), r"is float64\[1, 3, 6, 6\].*\n.*x\.astype\('float32'\)"),
        (np.zeros((1, 3, 6, 6), ">f4"), r"is >f4"),
        (np.float32(1), r"input 'x' is float32\[\]"),
        ([[1.0]], "input 'x' is a list, not a numpy array or PyTorch tensor"),
        (None, "input 'x' is a NoneType"),
    ],
)
def test_input_that_does_not_fit(conv_executable: Any, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        conv_executable(value)


def test_wrong_number_and_names_of_inputs(conv_executable: Any) -> None:
    (x,) = conv_executable.random_inputs()
    with pytest.raises(InputError, match="takes 1 input, 0 given\n.*x: float32"):
        conv_executable()
    with pytest.raises(InputError, match="takes 1 input, 2 given"):
        conv_executable(x, x)
    with pytest.raises(InputError, match="no input 'y'"):
        conv_executable(y=x)
    np.testing.assert_array_equal(conv_executable(x=x), conv_executable(x))


def test_layout_and_alignment_of_the_input_do_not_matter(conv_executable: Any) -> None:
    (x,) = conv_executable.random_inputs()
    expected = conv_executable(x)
    shifted = np.zeros(x.nbytes + 4, np.uint8)[4:].view("float32").reshape(x.shape)
    shifted[...] = x
    transposed = np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    frozen = x.copy()
    frozen.flags.writeable = False
    for variant in (shifted, transposed, frozen, np.asfortranarray(x)):
        np.testing.assert_array_equal(conv_executable(variant), expected)


def test_large_aligned_inputs_are_not_copied(lower: Any, host_target: Any, conv_module: Any, reference: Any) -> None:
    from lhcc.runtime.build import build
    from lhcc.runtime.memory import allocate

    module = conv_module(1, 4, 96)
    executable = build(lower(module), host_target, jobs=1)
    (x,) = executable.random_inputs()
    aligned = allocate(x.nbytes).view("float32").reshape(x.shape)
    aligned[...] = x
    assert executable._slots[0].take(aligned).data_ptr() == aligned.ctypes.data
    np.testing.assert_allclose(executable(aligned), reference(module, x)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(executable(aligned), executable(x))


def test_threads_of_the_caller_take_turns(conv_executable: Any) -> None:
    inputs = [conv_executable.random_inputs(seed)[0] for seed in range(4)]
    expected = [conv_executable(x) for x in inputs]
    wrong = []

    def work(x: Any, y: Any) -> None:
        for _ in range(200):
            if not np.array_equal(conv_executable(x), y):
                wrong.append(1)

    workers = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_a_call_costs_microseconds(lower: Any, host_target: Any, conv_module: Any) -> None:
    from lhcc.runtime.build import build

    executable = build(lower(conv_module(1, 1, 1)), host_target, jobs=1)
    (x,) = executable.random_inputs()
    best = min(_time_of_hundred(executable, x) for _ in range(30)) / 100
    assert best < 15e-6, f"{best * 1e6:.1f} us per call"


def _time_of_hundred(executable: Any, x: Any) -> float:
    start = time.perf_counter()
    for _ in range(100):
        executable(x)
    return time.perf_counter() - start


@pytest.mark.torch
def test_torch_in_torch_out(conv_executable: Any) -> None:
    torch = pytest.importorskip("torch")
    (x,) = conv_executable.random_inputs()
    expected = conv_executable(x)
    tensor = torch.from_numpy(x.copy())
    for variant in (tensor, tensor.clone().requires_grad_(), tensor.to(memory_format=torch.channels_last)):
        result = conv_executable(variant)
        assert isinstance(result, torch.Tensor)
        np.testing.assert_array_equal(result.numpy(), expected)
    with pytest.raises(InputError, match=r"is float64\[1, 3, 6, 6\].*\n.*x\.to\(torch\.float32\)"):
        conv_executable(tensor.double())
    with pytest.raises(InputError, match=r"is float32\[2, 3, 6, 6\]"):
        conv_executable(torch.cat([tensor, tensor]))


LATE = """
import lhcc.runtime.library
lhcc.runtime.library.import_tvm()
import torch
import lhcc
torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU()).eval()
x = torch.randn(1, 3, 8, 8)
assert torch.allclose(lhcc.compile(module, inputs=(x,))(x), module(x), atol=1e-5)
"""


@pytest.mark.torch
@pytest.mark.slow
def test_torch_may_be_imported_after_tvm_was_without_it() -> None:
    import subprocess
    import sys
    from pathlib import Path

    pytest.importorskip("torch")
    subprocess.run([sys.executable, "-c", LATE], check=True, cwd=Path(__file__).parents[2])
