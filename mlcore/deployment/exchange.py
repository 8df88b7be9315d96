"""Maps and weights in the formats of other programs: hloc, faiss, safetensors."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mlcore.deployment.map_folder import MapFolder
from mlcore.deployment.model_folder import DeployedModel
from mlcore.errors import DataError
from mlcore.files import atomic_write, write_lines

_BLOCK_ROWS = 65_536


def write_faiss(path: Path, folder: MapFolder) -> tuple[Path, ...]:
    """Write a map as a faiss index, and what its rows are as a CSV file beside it.

    The index is the map's own, or an exact one (``IndexFlatL2``); its distances are squared.
    """
    import faiss

    if folder.info.index is not None:
        with atomic_write(path) as file, (folder.path / "index.faiss").open("rb") as source:
            shutil.copyfileobj(source, file)
    else:
        index = faiss.IndexFlatL2(folder.info.dimensions)
        for start in range(0, len(folder), _BLOCK_ROWS):
            stop = min(start + _BLOCK_ROWS, len(folder))
            index.add(folder.embeddings.read(start, stop))
        with atomic_write(path) as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
    return path, _write_rows(path.with_suffix(".csv"), folder)


def write_hloc(
    path: Path,
    folder: MapFolder,
    queries: Sequence[str] = (),
    embeddings: NDArray[np.float32] | None = None,
    num_matched: int = 20,
) -> tuple[Path, ...]:
    """Write global descriptors as hloc reads them, and pairs of images to match.

    Each image is a group, named by its path, with the data set ``global_descriptor`` ``(D,)``.
    The pairs are in a text file beside it, ``query reference`` per line, nearest first.

    Args:
        path: The HDF5 file.
        folder: The references.
        queries: Names of the query images; without any, no pairs are written.
        embeddings: ``(Q, D)`` of the queries.
        num_matched: References per query.

    Raises:
        DataError: A query has the name of a reference, or a name holds a space, which a file
            of pairs cannot hold.
    """
    import h5py

    references = [_hloc_name(name) for name in folder.columns["image"].to_pylist()]
    asked = [_hloc_name(name) for name in queries]
    both = set(references) & set(asked)
    if both:
        raise DataError(
            f"{len(both)} query images have the path of a reference, the first is "
            f"{min(both)}; put queries and references into different folders"
        )
    spaced = [name for name in (*asked, *references) if any(map(str.isspace, name))]
    if asked and spaced:
        raise DataError(
            f"hloc's pairs cannot hold the space in {spaced[0]!r}; rename the image"
        )
    with atomic_write(path) as file, h5py.File(file.name, "w") as target:
        for start in range(0, len(references), _BLOCK_ROWS):
            names = references[start : start + _BLOCK_ROWS]
            block = folder.embeddings.read(start, start + len(names))
            for name, embedding in zip(names, block, strict=True):
                target.create_group(name)["global_descriptor"] = embedding
        for row, name in enumerate(asked):
            assert embeddings is not None
            target.create_group(name)["global_descriptor"] = embeddings[row]
    if not asked:
        return (path,)
    assert embeddings is not None
    found = folder.search(embeddings, num_matched)
    pairs = path.with_name(f"{path.stem}-pairs.txt")
    write_lines(
        pairs,
        (
            f"{name} {references[row]}"
            for name, rows in zip(asked, found.row.tolist(), strict=True)
            for row in rows
            if row >= 0
        ),
    )
    return path, pairs


def write_safetensors(path: Path, model: DeployedModel, results: str) -> tuple[Path, ...]:
    """Write weights and whitening as one file, and a model card beside it.

    Args:
        path: The file of weights.
        model: The model.
        results: What evaluation found, as text; empty if it is not known.
    """
    from safetensors.torch import load, save
    from torch import from_numpy

    tensors = load((model.path / "weights.safetensors").read_bytes())
    if model.whitening is not None:
        for name in ("mean", "components", "deviation"):
            array = np.ascontiguousarray(getattr(model.whitening, name))
            tensors[f"whitening.{name}"] = from_numpy(array)
    info = json.dumps(asdict(model.info))
    with atomic_write(path) as file:
        file.write(save(tensors, {"format": "pt", "mlcore": info}))
    card = path.with_suffix(".md")
    write_lines(card, model_card(model, results).splitlines())
    return path, card


def model_card(model: DeployedModel, results: str) -> str:
    """Return what a person who gets the weights needs to know, as Markdown."""
    info = model.info
    height, width = info.input_size
    options = "\n".join(
        f"{section}.{name} = {value!r}"
        for section, values in info.options.items()
        for name, value in values.items()
    )
    whitening = (
        "none"
        if info.whitening == "none"
        else f"PCA fitted on the images of `{info.whitening}`: subtract `whitening.mean`, "
        "multiply by `whitening.components` transposed, divide by `whitening.deviation`, in "
        "float64"
    )
    versions = ", ".join(f"{name} {version}" for name, version in info.versions.items())
    found = f"```\n{results.strip()}\n```" if results else "Not recorded with these weights."
    return f"""# {info.run}

Image embeddings for visual localization, trained with mlcore.

| | |
|---|---|
| network | `{info.options["model"]["name"]}` |
| input | RGB, letterboxed to {height} x {width} px (height x width), divided by 255 |
| embedding | {info.embedding_dim} dimensions{", of unit length" if info.normalize else ""} |
| whitening | {whitening} |
| after whitening | {info.dimensions} dimensions, compared by Euclidean distance |
| loss | `{info.loss}`, {info.step} steps |
| training data | `{info.dataset}`, fingerprint `{info.data_fingerprint}` |
| weights | SHA-256 `{info.weights_sha256}` |
| versions | {versions} |

## Options

```
{options}
```

## Results

{found}

## Licence

mlcore sets no condition on these weights. Those of the images that the network was trained on
apply, and of the weights that it started from, if `model.weights` above names any.
"""


def _hloc_name(name: str) -> str:
    """Return an image's name as HDF5 keeps the path of a group: relative and plain."""
    return str(PurePosixPath(name)).lstrip("/")


def _write_rows(path: Path, folder: MapFolder) -> Path:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    names = folder.columns.column_names
    writer.writerow(["row", *names])
    columns = [folder.columns[name].to_pylist() for name in names]
    writer.writerows([row, *values] for row, values in enumerate(zip(*columns, strict=True)))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
    return path
