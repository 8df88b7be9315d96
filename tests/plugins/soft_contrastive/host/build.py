"""Compiles kernels for the host and launches them there, as CuPy does on a GPU."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

from torch import Tensor

COMPILER = shutil.which("g++") or shutil.which("clang++")
_SHIM = Path(__file__).with_name("shim.h")


class HostKernels:
    """Kernels of one source, as a :class:`mlcore_soft_contrastive.tiled.cupy_backend.Launch`."""

    def __init__(self, source: str, folder: Path, *, descending: bool = False) -> None:
        assert COMPILER is not None
        kernels = re.findall(r"__global__ void (\w+)\(([^)]*)\)", source)
        self.descending = descending
        program = folder / "kernels.cpp"
        program.write_text(
            "\n".join([f'#include "{_SHIM}"', source, *(_wrapper(*k) for k in kernels)])
        )
        library = folder / "kernels.so"
        flags = ["-std=c++17", "-O0", "-shared", "-fPIC", "-ffp-contract=off"]
        subprocess.run([COMPILER, *flags, str(program), "-o", str(library)], check=True)
        self._library = ctypes.CDLL(str(library))

    def __call__(
        self,
        name: str,
        grid: tuple[int, int],
        block: tuple[int, int],
        *arguments: Tensor | int,
    ) -> None:
        passed: list[ctypes.c_void_p | ctypes.c_int] = []
        for argument in arguments:
            if isinstance(argument, Tensor):
                assert argument.is_contiguous()
                assert argument.device.type == "cpu"
                passed.append(ctypes.c_void_p(argument.data_ptr()))
            else:
                passed.append(ctypes.c_int(argument))
        shape = [ctypes.c_uint(n) for n in (*grid, *block)]
        getattr(self._library, f"launch_{name}")(*shape, ctypes.c_int(self.descending), *passed)


def _wrapper(name: str, parameters: str) -> str:
    names = ", ".join(re.findall(r"(\w+)\s*(?:,|$)", parameters))
    return (
        f'extern "C" void launch_{name}(unsigned gx, unsigned gy, unsigned bx, unsigned by, '
        f"int descending, {parameters}) {{ "
        f"shim::launch({name}, gx, gy, bx, by, descending != 0, {names}); }}"
    )
