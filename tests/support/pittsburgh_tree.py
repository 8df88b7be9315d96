"""Writes a tiny Pittsburgh: images in any layout, specs in any form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

LAYOUTS = {
    "original": ("", "queries_real"),
    "renamed": ("images", "queries"),
    "raw": ("raw/Pittsburgh/images", "raw/Pittsburgh/queries"),
}
FORMS = ("struct", "top-level", "npz", "npz-lists")
PLACES, VIEWS = 6, ("pitch1_yaw1", "pitch1_yaw2", "pitch2_yaw1")
ORIGIN_M = np.array([585_000.25, 4_477_000.5])


def content(number):
    """Names and positions of split ``number``: a street of six places, 12 m apart."""
    names, queries, positions, query_positions = [], [], [], []
    for place in range(PLACES):
        along = np.add(ORIGIN_M, (12.0 * place, 1000.0 * number))
        for view in VIEWS:
            names.append(f"{number:03d}/{place:06d}_{view}.jpg")
            positions.append(along)
        if place % 2 == 0:
            for view in VIEWS:
                queries.append(f"{number:03d}/{place:06d}_{view}.jpg")
                query_positions.append(np.add(along, (1.0, 2.0)))
    return names, np.array(positions), queries, np.array(query_positions)


def cells(names):
    """A cellstr, n x 1."""
    column = np.empty((len(names), 1), dtype=object)
    column[:, 0] = names
    return column


def struct(names, positions, queries, query_positions, part="test"):
    """DbStruct with its fields in the usual order."""
    return {
        "whichSet": part,
        "dbImageFns": cells(names),
        "utmDb": np.asarray(positions).T,
        "qImageFns": cells(queries),
        "utmQ": np.asarray(query_positions).T,
        "numImages": float(len(names)),
        "numQueries": float(len(queries)),
        "posDistThr": 25.0,
        "posDistSqThr": 625.0,
        "nonTrivPosDistSqThr": 100.0,
    }


def write_spec(folder: Path, stem: str, form: str, listed, compress=True) -> Path:
    """Write one spec; ``listed`` is what :func:`content` returns."""
    names, positions, queries, query_positions = listed
    fields = struct(*listed)
    if form == "npz":
        arrays = {"utmDb": positions, "utmQ": query_positions, "posDistThr": 25.0}
        path = folder / f"{stem}.npz"
        np.savez(path, dbImageFns=np.array(names), qImageFns=np.array(queries), **arrays)
    elif form == "npz-lists":
        path = folder / f"{stem}.npz"
        np.savez(path, utmDb=positions, utmQ=query_positions, posDistThr=25.0)
        for ending, lines in (("index", names), ("query", queries)):
            text = "".join(f"{line}\n" for line in lines)
            (folder / f"{stem}_imageNames_{ending}.txt").write_text(text)
    else:
        path = folder / f"{stem}.mat"
        variables = {"dbStruct": fields} if form == "struct" else fields
        savemat(path, variables, do_compression=compress, oned_as="row")
    return path


def write_tree(root: Path, layout="original", form="struct", protocol="30k") -> Path:
    """Write images and the three specs; returns ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for number, part in enumerate(("train", "val", "test")):
        listed = content(number)
        write_spec(root, f"pitts{protocol}_{part}", form, listed)
        for folder, names in zip(LAYOUTS[layout], (listed[0], listed[2]), strict=True):
            for name in names:
                path = root / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                image = generator.integers(0, 256, (36, 48, 3), dtype=np.uint8)
                Image.fromarray(image).save(path)
    return root
