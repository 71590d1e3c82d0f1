from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhcc.errors import ArtifactError, LhccError
from lhcc.runtime import artifact, container, machine
from lhcc.runtime.memory import align
from lhcc.runtime.program import Machine


@pytest.fixture(scope="module")
def saved(conv_executable: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "model.lhcc"
    conv_executable.save(path)
    return path


def test_a_loaded_artifact_computes_the_same(conv_executable: Any, saved: Path) -> None:
    loaded = artifact.load(saved)
    (x,) = loaded.random_inputs(5)
    np.testing.assert_array_equal(loaded(x), conv_executable(x))
    for key in ("inputs", "outputs", "layers", "reasons", "target", "machine", "arena_size", "threads"):
        assert getattr(loaded.program, key) == getattr(conv_executable.program, key)


def test_saving_what_was_loaded_gives_the_same_file(saved: Path, tmp_path: Path) -> None:
    artifact.load(saved).save(tmp_path / "again.lhcc")
    assert (tmp_path / "again.lhcc").read_bytes() == saved.read_bytes()


def test_size_is_weights_and_little_else(conv_executable: Any, saved: Path) -> None:
    assert saved.stat().st_size <= conv_executable.program.weights.nbytes + 20_000


def test_many_programs_in_one_process_keep_apart(
    lower: Any, host_target: Any, conv_module: Any, reference: Any, tmp_path: Path
) -> None:
    """Their code is loaded from memory under numbers that the system uses again."""
    from lhcc.runtime.build import build

    executables = []
    for depth in (1, 2, 3):
        build(lower(conv_module(depth)), host_target, jobs=1).save(tmp_path / f"{depth}.lhcc")
        executables += [artifact.load(tmp_path / f"{depth}.lhcc") for _ in range(3)]
    (x,) = executables[0].random_inputs()
    for index, executable in enumerate(executables):
        expected = reference(conv_module(index // 3 + 1), x)[0]
        np.testing.assert_allclose(executable(x), expected, rtol=1e-5, atol=1e-6)


RUN = """
import sys, numpy
from lhcc.runtime.artifact import load
y = load(sys.argv[1])(numpy.load(sys.argv[2]))
assert not {"torch", "onnx", "tvm"} & set(sys.modules), sorted(sys.modules)
assert "libtvm_compiler" not in open("/proc/self/maps").read()
numpy.save(sys.argv[3], y)
"""


@pytest.mark.parametrize("runtime_only", ["0", "1"])
def test_running_needs_neither_compiler_nor_torch(
    conv_executable: Any, saved: Path, tmp_path: Path, runtime_only: str
) -> None:
    (x,) = conv_executable.random_inputs()
    np.save(tmp_path / "x.npy", x)
    environment = {**os.environ, "TVM_USE_RUNTIME_LIB": runtime_only, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", RUN, str(saved), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    subprocess.run(command, check=True, env=environment)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), conv_executable(x))


# --- bad files -------------------------------------------------------------------------------------------------------


def damaged(saved: Path, tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "bad.lhcc"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("seed", range(120))
def test_a_flipped_bit_anywhere_is_found(saved: Path, tmp_path: Path, seed: int) -> None:
    data = bytearray(saved.read_bytes())
    rng = random.Random(seed)
    place = rng.randrange(len(data)) if seed % 2 else rng.randrange(64)  # half of them in the header
    data[place] ^= 1 << rng.randrange(8)
    with pytest.raises(ArtifactError):
        artifact.load(damaged(saved, tmp_path, bytes(data)))


@pytest.mark.parametrize("seed", range(40))
def test_a_truncated_file_is_found(saved: Path, tmp_path: Path, seed: int) -> None:
    data = saved.read_bytes()
    length = seed if seed < 20 else random.Random(seed).randrange(len(data))
    with pytest.raises(ArtifactError, match="truncated|is empty"):
        artifact.load(damaged(saved, tmp_path, data[:length]))


def test_bytes_after_the_end_are_found(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="3 bytes follow its end"):
        artifact.load(damaged(saved, tmp_path, saved.read_bytes() + b"abc"))


def test_another_kind_of_file(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(ArtifactError, match="is not an lhcc artifact\n.*lhcc compile"):
        artifact.load(damaged(saved, tmp_path, b"\x08\x07\x12\x07pytorch" * 20))
    with pytest.raises(ArtifactError, match="cannot read .*: No such file"):
        artifact.load(tmp_path / "missing.lhcc")
    with pytest.raises(ArtifactError, match="cannot read .*: Is a directory"):
        artifact.load(tmp_path)


def test_a_newer_format_is_refused(saved: Path, tmp_path: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[8] = container.VERSION + 1
    with pytest.raises(ArtifactError, match="has format 2, this lhcc reads formats up to 1\n.*upgrade"):
        artifact.load(damaged(saved, tmp_path, bytes(data)))


@pytest.mark.parametrize("seed", range(120))
def test_a_forged_table_of_contents_never_crashes(saved: Path, tmp_path: Path, seed: int) -> None:
    """Fields taken out or replaced, with the digests made right again: an error, before any code is loaded."""
    data = saved.read_bytes()
    _, version, length, _ = container.HEADER.unpack(data[: container.HEADER.size])
    start = container.HEADER.size
    table = json.loads(data[start : start + length])
    rng = random.Random(seed)
    victim = rng.choice([table, table["description"], *table["members"]])
    key = rng.choice(list(victim))
    if rng.random() < 0.5:
        del victim[key]
    else:
        victim[key] = rng.choice([None, -1, 2**40, 2**63, "x", [], {}])
    contents = json.dumps(table, separators=(",", ":")).encode()
    header = container.HEADER.pack(container.MAGIC, version, len(contents), hashlib.sha256(contents).digest())
    body = data[align(start + length) :]
    head = header + contents
    path = damaged(saved, tmp_path, head + bytes(align(len(head)) - len(head)) + body)
    try:
        artifact.read(path)  # free text, such as the name of the target, may be anything
    except ArtifactError:
        pass


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (Machine("sparc64"), "was compiled for sparc64, this machine is"),
        (Machine(machine.host_arch(), ("avx1024",)), "its code uses avx1024, which this processor .* lacks"),
    ],
)
def test_another_processor(conv_executable: Any, tmp_path: Path, needs: Machine, message: str) -> None:
    path = tmp_path / "model.lhcc"
    artifact.write(path, dataclasses.replace(conv_executable.program, machine=needs))
    with pytest.raises(ArtifactError, match=message):
        artifact.load(path)


def test_code_for_an_arm_board_is_compiled_here_and_runs_there(lower: Any, conv_module: Any, tmp_path: Path) -> None:
    import shutil
    from types import SimpleNamespace

    from tvm.target import Target

    from lhcc.errors import TargetError
    from lhcc.runtime.build import build

    if machine.host_arch() == "aarch64" or not shutil.which("aarch64-linux-gnu-ld"):
        pytest.skip("no linker for another architecture")
    arm = Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"})
    executable = build(lower(conv_module()), SimpleNamespace(name="cpu", tvm_target=lambda: arm), jobs=1)
    assert executable.program.code[18:20] == b"\xb7\x00"  # EM_AARCH64 in the ELF header
    executable.save(tmp_path / "arm.lhcc")
    for refused in (lambda: executable(*executable.random_inputs()), executable.profile):
        with pytest.raises(TargetError, match="the model cannot run here: it was compiled for aarch64"):
            refused()
    with pytest.raises(ArtifactError, match="cannot run here: it was compiled for aarch64, this machine is"):
        artifact.load(tmp_path / "arm.lhcc")
    assert artifact.reasons(tmp_path / "arm.lhcc") == executable.program.reasons


def test_another_tvm(conv_executable: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.lhcc"
    monkeypatch.setattr(artifact, "tvm_version", lambda: "0.99")
    artifact.write(path, dataclasses.replace(conv_executable.program, bytecode=b"another format"))
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="was made with TVM 0.99 and cannot be loaded by TVM"):
        artifact.load(path)


def test_features_are_read_from_cpuinfo() -> None:
    x86 = "model name\t: X\nflags\t\t: fpu avx2 fma\n"
    arm, riscv = "Features\t: fp asimd\n", "isa\t: rv64imafdcv_zicsr\n"
    assert machine.cpuinfo_flags(x86, "x86_64") == {"fpu", "avx2", "fma"}
    assert machine.cpuinfo_flags(arm, "aarch64") == machine.cpuinfo_flags(arm, "armv7l") == {"fp", "asimd"}
    assert machine.cpuinfo_flags(riscv, "riscv64") == {*"imafdcv", "zicsr"}
    assert machine.cpuinfo_flags("", "x86_64") == frozenset()
    assert machine.cpuinfo_flags(x86, "aarch64") == frozenset(), "an emulator shows its own machine"
    assert machine.needed("x86_64", ["avx2", "fast-gather", "fma"]).features == ("avx2", "fma")


# --- bad places ------------------------------------------------------------------------------------------------------


def test_places_that_cannot_be_written(conv_executable: Any, tmp_path: Path) -> None:
    with pytest.raises(LhccError, match="cannot write .*: No such file or directory"):
        conv_executable.save(tmp_path / "missing" / "model.lhcc")
    with pytest.raises(LhccError, match="cannot write .*: it is a directory"):
        conv_executable.save(tmp_path)
    with pytest.raises(LhccError, match="cannot write /dev/full: it is a device"):
        conv_executable.save("/dev/full")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_the_old_file(conv_executable: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.lhcc"
    path.write_bytes(b"the old one")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(LhccError, match="cannot write .*: File too large"):
            conv_executable.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    from lhcc.runtime.files import atomic_write

    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "x") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
