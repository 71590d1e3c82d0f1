"""The artifact's own machine code on the processors of other boards, under QEMU, against this machine's answer."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lhcc
from benchmarks import masks
from benchmarks.models import LayerShape, network_file, stack, write
from lhcc.cli import main
from lhcc.emulation.emulator import EmulationError
from lhcc.errors import InputError, TargetError, ToolMissing
from lhcc.runtime.library import import_tvm
from lhcc.targets import boards

pytestmark = pytest.mark.qemu
DIGITS = Path(__file__).parents[2] / "examples" / "digits"
BOARDS = ("raspberry-pi-4", "armv7", "riscv64")
OTHERS = ("aarch64", "raspberry-pi-5", "jetson-orin", "riscv64-rvv", "x86-64-v2", "x86-64-v3")


@pytest.fixture(autouse=True)
def tools() -> None:
    """Skips, and says what is missing, where there are no cross compilers and no QEMU."""
    import_tvm()
    for board in (boards.known()[name] for name in BOARDS):
        for tool, package in ((f"{board.tools}-gcc", board.package), (board.emulator, "qemu-user")):
            if shutil.which(tool) is None:
                pytest.skip(f"{tool} is missing: apt-get install {package}")


def assert_same(emulated: Any, expected: Any) -> None:
    for got, wanted in zip(emulated.outputs, expected if isinstance(expected, tuple) else (expected,), strict=True):
        assert got.shape == wanted.shape and got.dtype == wanted.dtype
        if np.issubdtype(got.dtype, np.floating):
            assert np.abs(got - wanted).max() <= 1e-5 * max(1.0, float(np.abs(wanted).max()))
        else:
            np.testing.assert_array_equal(got, wanted)
    assert len(emulated.instructions) == len(emulated.layers), emulated.note
    assert all(count > 0 for count in emulated.instructions)


@cache
def model(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """A network of the tests: the model, its example inputs, the options."""
    if name.startswith("int8-"):
        dyadic = lhcc.approximate(str(DIGITS / f"{name.removeprefix('int8-')}.onnx"), set="digits:2:5")
        images = np.random.default_rng(0).random((8, 1, 8, 8), np.float32)
        return dyadic, None, {"precision": "int8", "calibrate": images}
    if (DIGITS / f"{name}.onnx").exists():
        return str(DIGITS / f"{name}.onnx"), None, {}
    import torch
    from torch import nn

    from tests.zoo import ConvBnAct, InvertedResidual, lenet5, randomised

    if name == "lenet5":
        return randomised(lenet5()), (torch.zeros(1, 1, 28, 28),), {}
    assert name == "mobilenet-blocks"
    blocks = [InvertedResidual(8, 8, 1, 1), InvertedResidual(8, 12, 2, 6), InvertedResidual(12, 12, 1, 6)]
    first = ConvBnAct(3, 8, 3, 2, act=nn.ReLU6)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10)]
    return randomised(nn.Sequential(first, *blocks, *head)), (torch.zeros(1, 3, 32, 32),), {}


@cache
def answer_here(name: str) -> tuple[Any, Any]:
    network, example, options = model(name)
    here = lhcc.compile(network, "cpu", example, **options)
    arguments = here.random_inputs(7)
    return arguments, here(*arguments)


def check(name: str, board: str, **more: Any) -> None:
    network, example, options = model(name)
    arguments, expected = answer_here(name)
    there = lhcc.compile(network, board, example, **options, **more)
    try:
        assert_same(there.emulate(*arguments), expected)
    except EmulationError as error:
        if "Assertion `ctx->insn_start" in str(error):
            pytest.skip(f"QEMU ends itself while it translates RISC-V's vectors, as release 7.2 does: {error}")
        raise


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", ["vgg_lhc_rigid", "int8-vgg_lhc_rigid"])
def test_digits(name: str, board: str) -> None:
    check(name, board)


@pytest.mark.slow
@pytest.mark.parametrize("board", [*BOARDS, *OTHERS])
@pytest.mark.parametrize("name", ["resnet_lhc_free", "vgg", "int8-resnet_lhc_rigid"])
def test_more_digits(name: str, board: str) -> None:
    check(name, board)


@pytest.mark.torch
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", ["lenet5", "mobilenet-blocks"])
def test_small_networks(name: str, board: str) -> None:
    check(name, board)


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("board", OTHERS)
@pytest.mark.parametrize("name", ["lenet5", "mobilenet-blocks", "vgg_lhc_rigid", "int8-vgg_lhc_rigid"])
def test_other_processors(name: str, board: str) -> None:
    check(name, board)


def test_threads_run_one_after_the_other() -> None:
    check("vgg_lhc_rigid", "raspberry-pi-4", threads=4)


# ---- what compression and vectors save


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """VGG-16 for CIFAR at density 0.1, compiled for a board, and its file."""
    path = network_file("vgg16-cifar", 0.1, tmp_path_factory.mktemp("vgg"))
    return lhcc.compile(str(path), "raspberry-pi-4"), path


def test_vgg_answers_as_here(vgg: Any) -> None:
    there, path = vgg
    here = lhcc.compile(str(path))
    x = here.random_inputs(7)
    assert_same(there.emulate(*x), here(*x))


@pytest.mark.slow
def test_vgg_takes_a_fifth_of_the_instructions(vgg: Any, tmp_path: Path) -> None:
    dense = lhcc.compile(str(network_file("vgg16-cifar", 1.0, tmp_path)), "raspberry-pi-4").emulate()
    sparse = vgg[0].emulate()
    assert sparse.total <= 0.2 * dense.total, (sparse.total, dense.total)


def test_layers_take_a_fifth_of_the_instructions(tmp_path: Path) -> None:
    """Two convolutions with a tenth of their kernel shapes, on every board."""
    shape = LayerShape(64, 64, 3, 16)
    rng = np.random.default_rng(0)
    sparse, dense = (
        write(stack(shape, [masks.lhc(rng, shape.weight_shape, density)] * 2), tmp_path / f"{density}.onnx")
        for density in (0.1, 1.0)
    )
    for board in BOARDS:
        counts = [lhcc.compile(str(path), board).emulate().total for path in (sparse, dense)]
        assert counts[0] <= 0.2 * counts[1], (board, counts)


def test_neon_code_is_vector_code(vgg: Any, tmp_path: Path) -> None:
    """Innermost loops are mostly fused multiply-adds on vector registers, and hold no scalar arithmetic."""
    objdump = shutil.which("aarch64-linux-gnu-objdump")
    assert objdump, "comes with the cross compiler's binutils"
    (tmp_path / "kernels.so").write_bytes(vgg[0].program.code)
    listing = subprocess.run(
        [objdump, "-d", tmp_path / "kernels.so"], capture_output=True, text=True, check=True
    ).stdout
    loops = innermost_loops(listing)
    fused = [len(re.findall(r"\tfmla\tv\d+\.4s, ", loop)) for loop in loops]
    scalar = [len(re.findall(r"\t(?:fn?madd|fn?mul|fadd)\ts\d+", loop)) for loop in loops]
    share = [count / len(loop.splitlines()) for count, loop in zip(fused, loops, strict=True)]
    assert sum(part > 0.5 and count >= 32 for part, count in zip(share, fused, strict=True)) >= 10, share
    assert sum(scalar) == 0


def innermost_loops(text: str) -> list[str]:
    """The instructions from each target of a backward jump to the jump, where no other such loop is inside."""
    lines = [line for line in text.splitlines() if re.match(r"\s*[0-9a-f]+:", line)]
    places = {int(line.split(":")[0], 16): number for number, line in enumerate(lines)}
    spans = []
    for number, line in enumerate(lines):
        jump = re.search(r"\t(?:b\.\w+|cbn?z|tbn?z)\t.*?\b([0-9a-f]+) <", line)
        start = places.get(int(jump.group(1), 16)) if jump else None
        if start is not None and start <= number:
            spans.append((start, number))
    inner = [(a, b) for a, b in spans if not any((a, b) != (c, d) and a <= c and d <= b for c, d in spans)]
    return ["\n".join(lines[a : b + 1]) for a, b in inner]


# ---- by command


def test_an_artifact_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Compiled here for a board, carried as a file, emulated; without --emulate it is refused."""
    artifact, x, y = (str(tmp_path / name) for name in ("net.lhcc", "x.npy", "y.npy"))
    model = str(DIGITS / "vgg_lhc_rigid.onnx")
    assert main(["compile", model, "--target", "riscv64", "-o", artifact]) == 0
    here = lhcc.compile(model)
    (given,) = here.random_inputs(1)
    np.save(x, given)
    capsys.readouterr()
    assert main(["run", artifact, "--input", x, "--output", y]) == 2
    assert "it was compiled for riscv64" in capsys.readouterr().err
    assert main(["run", artifact, "--input", x, "--output", y, "--emulate"]) == 0
    assert "emulated by qemu-riscv64" in capsys.readouterr().err
    np.testing.assert_allclose(np.load(y), here(given), atol=1e-5)
    assert main(["profile", artifact, "--emulate"]) == 0
    table = capsys.readouterr().out
    assert "emulated time is not a measurement" in table and "instructions of riscv64" in table
    assert main(["profile", artifact, "--emulate", "--html", str(tmp_path / "p.html")]) == 2
    assert not (tmp_path / "p.html").exists()


@pytest.fixture(scope="module")
def there() -> Any:
    import_tvm()
    return lhcc.compile(str(DIGITS / "vgg_lhc_rigid.onnx"), "armv7")


def test_counts_repeat_exactly(there: Any) -> None:
    x = there.random_inputs(1)
    assert there.emulate(*x).instructions == there.emulate(*x).instructions


def test_inputs_are_checked(there: Any) -> None:
    with pytest.raises(InputError, match="float64"):
        there.emulate(np.zeros((1, 1, 8, 8)))
    with pytest.raises(InputError, match="2 given"):
        there.emulate(*there.random_inputs(), *there.random_inputs())


def test_what_is_missing_is_named(there: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name.startswith("qemu") else found(name))
    with pytest.raises(ToolMissing, match="qemu-arm was not found.*\n.*apt-get install qemu-user"):
        there.emulate()
    monkeypatch.setattr(shutil, "which", lambda name: None if name.startswith("arm-linux") else found(name))
    with pytest.raises(ToolMissing, match="arm-linux-gnueabihf-gcc was not found\n.*gcc-arm-linux-gnueabihf"):
        there.emulate()


def test_what_is_not_emulated(there: Any) -> None:
    from dataclasses import replace

    from lhcc.emulation import emulate
    from lhcc.runtime.program import Machine

    elsewhere = replace(there.program, machine=Machine("aarch64", (), "macos"), target="apple-m1")
    with pytest.raises(TargetError, match="code for apple-m1 .* is not emulated\n  presets that are: aarch64, armv7"):
        emulate(elsewhere, ())
