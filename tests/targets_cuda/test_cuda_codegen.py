"""Code is generated as well where TVM's own CUDA runtime is loaded, as it is on machines with a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# what TVM's runtime asks of the driver: none of it is called to generate code
ASKED = (
    "cuDeviceGetName", "cuFuncSetAttribute", "cuGetErrorName", "cuGetErrorString", "cuLaunchKernelEx",
    "cuModuleGetFunction", "cuModuleLoadData", "cuModuleUnload", "cuTensorMapEncodeTiled",
)  # fmt: skip
SCRIPT = """
import tvm, tvm_ffi
from lhcc.targets.cuda import maps
from lhcc.targets.cuda.codegen import generate
print("loaded" if tvm_ffi.get_global_func("ffi.Module.create.cuda", allow_missing=True) else "absent")
print(generate({"k": maps.to_blocked((1, 3, 4, 4), "float16")}, "sm_90").launches["k"].kernel)
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_code_is_generated_where_a_driver_is(tmp_path: Path) -> None:
    (tmp_path / "driver.c").write_text("".join(f"int {name}(void) {{ return 100; }}\n" for name in ASKED))
    library = tmp_path / "libcuda.so.1"
    build = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", str(library), str(tmp_path / "driver.c")]
    subprocess.run(build, check=True)
    spec = find_spec("nvidia")
    runtimes = [str(path.parent) for folder in (spec.submodule_search_locations or [] if spec else [])
                for path in Path(folder).glob("*/lib/libcudart.so*")]  # fmt: skip
    paths = [str(tmp_path), *runtimes, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    env = {**os.environ, "LD_LIBRARY_PATH": ":".join(paths)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    told, kernel = done.stdout.split()
    if told == "absent":
        pytest.skip("TVM's CUDA runtime does not load here: libcudart is missing")
    assert kernel == "k_kernel"
