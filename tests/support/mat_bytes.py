"""MATLAB v5 files in bytes, also such as MATLAB would never write."""

from __future__ import annotations

import struct

from scipy.io import savemat


def saved(tmp_path, **variables):
    path = tmp_path / "a.mat"
    savemat(path, variables)
    return path


def element(kind, content, order="<"):
    return struct.pack(order + "II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def matrix(kind, shape, body=b"", name=b"", order="<"):
    """An array in bytes, as MATLAB would write it."""
    flags = element(6, struct.pack(order + "II", kind, 0), order)
    dimensions = element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, flags + dimensions + element(1, name, order) + body, order)


def text(line, order="<", kind=17):
    codec = {"<": "utf-16-le", ">": "utf-16-be"}[order]
    return matrix(4, (1, len(line)), element(kind, line.encode(codec), order), order=order)


def header(order="<"):
    return (
        b"MATLAB 5.0 MAT-file".ljust(124)
        + struct.pack(order + "H", 0x100)
        + {
            "<": b"IM",
            ">": b"MI",
        }[order]
    )
