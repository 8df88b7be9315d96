"""Compiles kernels for the host and launches them there, as CuPy does on a GPU."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from torch import Tensor

COMPILER = shutil.which("g++") or shutil.which("clang++")
_SHIM = Path(__file__).with_name("shim.h")
_KERNEL = re.compile(r"__global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(([^)]*)\)")


class HostKernels:
    """Kernels of one source, as a :class:`mlcore_soft_contrastive.tiled.cupy_launch.Launch`."""

    def __init__(self, source: str, folder: Path, *, descending: bool = False) -> None:
        assert COMPILER is not None
        structures = set(re.findall(r"^struct (\w+) \{", source, re.MULTILINE))
        wrappers = [_wrapper(*kernel, structures) for kernel in _KERNEL.findall(source)]
        self.descending = descending
        program = folder / "kernels.cpp"
        program.write_text("\n".join([f'#include "{_SHIM}"', source, *wrappers]))
        library = folder / "kernels.so"
        flags = ["-std=c++17", "-O0", "-shared", "-fPIC", "-ffp-contract=off"]
        flags += ["-Wno-attributes", "-Wno-unknown-pragmas"]
        subprocess.run([COMPILER, *flags, str(program), "-o", str(library)], check=True)
        self._library = ctypes.CDLL(str(library))

    def __call__(
        self, name: str, grid: tuple[int, int], block: tuple[int, int], *arguments: Any
    ) -> None:
        shape = [ctypes.c_uint(n) for n in (*grid, *block)]
        passed = [_passed(argument) for argument in arguments]
        getattr(self._library, f"launch_{name}")(*shape, ctypes.c_int(self.descending), *passed)


def _passed(argument: Any) -> Any:
    """Return an argument as the wrappers of the kernels take it."""
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        assert argument.device.type == "cpu"
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    if isinstance(argument, float):
        return ctypes.c_double(argument)
    return ctypes.c_void_p() if argument is None else ctypes.c_int(argument)


def _wrapper(name: str, parameters: str, structures: set[str]) -> str:
    """Return a function that launches a kernel; it takes structures by address."""
    taken, given = [], []
    for parameter in parameters.split(","):
        kind, argument = re.fullmatch(r"\s*(.+?)\s*(\w+)\s*", parameter, re.DOTALL).groups()  # type: ignore[union-attr]
        by_value = kind.removeprefix("const ").strip() in structures
        taken.append(f"{kind}{' *' if by_value else ' '}{argument}")
        given.append(f"{'*' if by_value else ''}{argument}")
    return (
        f'extern "C" void launch_{name}(unsigned gx, unsigned gy, unsigned bx, unsigned by, '
        f"int descending, {', '.join(taken)}) {{ "
        f"shim::launch({name}, gx, gy, bx, by, descending != 0, {', '.join(given)}); }}"
    )
