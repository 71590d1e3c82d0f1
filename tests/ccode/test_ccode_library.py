"""Native libraries: used from C, from C++ and from Python's ctypes, by several threads at once."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lhcc
from tests.ccode.conftest import Models, need

C_PROGRAM = """\
#include "net.h"
#include <stdio.h>

int main(void)
{
    static float x[3 * 21 * 21], classes[11], features[16 * 11 * 11];
    for (int i = 0; i < 3 * 21 * 21; ++i)
        x[i] = 1.0f;
    net_context *const context = net_create();
    if (!context)
        return 1;
    net_run(context, x, classes, features);
    for (int i = 0; i < 11; ++i)
        printf("%.7f\\n", (double)classes[i]);
    net_destroy(context);
    net_destroy(NULL);
    return 0;
}
"""
CPP_PROGRAM = """\
#include "net.h"
#include <cstdio>
#include <memory>
#include <vector>

int main()
{
    const std::unique_ptr<net_context, decltype(&net_destroy)> context(net_create(), net_destroy);
    std::vector<float> x(3 * 21 * 21, 1.0f), classes(11), features(16 * 11 * 11);
    net_run(context.get(), x.data(), classes.data(), features.data());
    for (const float p : classes)
        std::printf("%.7f\\n", p);
}
"""


@pytest.fixture(scope="module")
def libraries(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    for form in ("so", "a"):
        done = lhcc.emit(models["block"], folder / f"libnet.{form}", form=form)
        assert done.files == ("net.h",) and done.name == "net"
    return folder


@pytest.fixture(scope="module")
def answer(models: Models) -> Any:
    return lhcc.compile(models["block"])(np.ones((1, 3, 21, 21), np.float32))


@pytest.mark.parametrize("form", ["so", "a"])
@pytest.mark.parametrize(("compiler", "text"), [("gcc -std=c99", C_PROGRAM), ("g++ -std=c++17", CPP_PROGRAM)])
def test_programs(compiler: str, text: str, form: str, libraries: Path, answer: Any, tmp_path: Path) -> None:
    source = tmp_path / ("main.c" if "std=c99" in compiler else "main.cpp")
    source.write_text(text)
    warnings = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    command = [*compiler.split(), *warnings, f"-I{libraries}", source.name, str(libraries / f"libnet.{form}"), "-lm"]
    subprocess.run([*command, f"-Wl,-rpath,{libraries}", "-o", "main"], cwd=tmp_path, check=True)
    printed = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    np.testing.assert_allclose(np.array(printed.split(), np.float32), answer[0][0], atol=2e-7)


def test_three_functions_are_all(libraries: Path) -> None:
    listed = subprocess.run(["nm", "-D", "--defined-only", "libnet.so"], cwd=libraries, capture_output=True, text=True)
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    assert names == {"net_create", "net_run", "net_destroy"}


def test_contexts_of_several_threads(libraries: Path, models: Models) -> None:
    """Every thread, with a context of its own, gets what it would get alone."""
    library = ctypes.CDLL(str(libraries / "libnet.so"))
    library.net_create.restype = ctypes.c_void_p
    library.net_destroy.argtypes = [ctypes.c_void_p]
    library.net_run.argtypes = [ctypes.c_void_p] * 4
    inputs = [np.random.default_rng(i).standard_normal((1, 3, 21, 21)).astype(np.float32) for i in range(4)]
    executable = lhcc.compile(models["block"])
    expected = [executable(x) for x in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        classes, features = np.zeros((1, 11), np.float32), np.zeros((1, 16, 11, 11), np.float32)
        context = library.net_create()
        assert context % 64 == 0
        for _ in range(50):
            features[...] = np.nan
            library.net_run(context, *(a.ctypes.data for a in (inputs[number], classes, features)))
            pairs = zip((classes, features), expected[number], strict=True)
            if not all(np.allclose(got, right, atol=1e-5) for got, right in pairs):
                wrong.append(number)
        library.net_destroy(context)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.qemu
def test_for_another_processor(models: Models, tmp_path: Path) -> None:
    need("aarch64-linux-gnu-gcc", "qemu-aarch64")
    lhcc.emit(models["block"], tmp_path / "libnet.a", "raspberry-pi-4", form="a", name="net")
    (tmp_path / "main.c").write_text(C_PROGRAM)
    compile_ = ["aarch64-linux-gnu-gcc", "-static", "main.c", "libnet.a", "-lm", "-o", "main"]
    subprocess.run(compile_, cwd=tmp_path, check=True)
    emulator = shutil.which("qemu-aarch64") or "qemu-aarch64-static"
    printed = subprocess.run([emulator, "./main"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    right = lhcc.compile(models["block"])(np.ones((1, 3, 21, 21), np.float32))[0][0]
    np.testing.assert_allclose(np.array(printed.split(), np.float32), right, atol=2e-7)
