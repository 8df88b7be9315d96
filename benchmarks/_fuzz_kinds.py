"""The kinds of files that :mod:`benchmarks.fuzz` damages: a valid one each, and its reader."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from benchmarks import _fuzz_runs as runs


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: As the table has it.
        suffix: Of the file.
        make: Returns a sound one.
        read: Reads one.
    """

    name: str
    suffix: str
    make: Callable[[], bytes]
    read: Callable[[Path], object]


def kinds() -> list[Kind]:
    """Return one of each parser's kinds of file."""
    return [
        Kind("RobotCar stereo.timestamps", ".timestamps", _timestamps, _robotcar("timestamps")),
        Kind("RobotCar ins.csv", ".csv", _ins, _robotcar("ins")),
        Kind("RobotCar rtk.csv", ".csv", _rtk, _robotcar("rtk")),
        Kind("RobotCar gps.csv", ".csv", _gps, _robotcar("gps")),
        Kind(
            "RobotCar tags.csv", ".csv", lambda: b"sun\nclouds,roadworks\n", _robotcar("tags")
        ),
        Kind("RobotCar regions", ".txt", _regions, _read_regions),
        Kind("RobotCar tar", ".tar", _tar, _read_tar),
        Kind("RobotCar .mat", ".mat", _robotcar_mat, _read_db_structs),
        Kind("RobotCar image", ".png", _png, _read_png),
        Kind("Pittsburgh .mat, struct", ".mat", lambda: _mat(struct=True), _read_spec),
        Kind("Pittsburgh .mat, arrays", ".mat", lambda: _mat(struct=False), _read_spec),
        Kind("Pittsburgh .npz", ".npz", _npz, _read_spec),
        Kind("images CSV", ".csv", _csv, _read_table),
        Kind("images CSV, quoted", ".csv", _quoted_csv, _read_table),
        Kind("images CSV, semicolons", ".csv", lambda: _csv().replace(b",", b";"), _try_table),
        Kind(
            "images CSV, UTF-16", ".csv", lambda: _csv().decode().encode("utf-16"), _try_table
        ),
        Kind("images CSV, tabs", ".csv", lambda: _csv().replace(b",", b"\t"), _try_table),
        Kind("images CSV of a German spreadsheet", ".csv", _german_csv, _try_table),
        Kind("images Parquet", ".parquet", _parquet, _read_table),
        Kind("images file name", ".txt", _name, _read_name),
        Kind("images EXIF", ".jpg", _exif, _read_exif),
        Kind("images EXIF, rotated", ".jpg", _full_exif, _read_exif),
        Kind("images JPEG", ".jpg", _exif, _read_image),
        Kind("checkpoint, looked for", ".ckpt", runs.checkpoint, runs.read_newest),
        Kind("checkpoint, loaded", ".ckpt", runs.checkpoint, runs.read_weights),
        Kind("run config.toml", ".toml", runs.config, runs.read_config),
        Kind("run environment.json", ".json", runs.environment, runs.read_environment),
        Kind("run evaluation.json", ".json", runs.evaluation, runs.read_evaluation),
        Kind("run metrics.jsonl", ".jsonl", runs.metrics, runs.read_metrics),
        Kind("comparison plan.json", ".json", runs.plan, runs.read_plan),
    ]


def _timestamps() -> bytes:
    return b"".join(b"%d %d\n" % (1417500000000000 + 62500 * k, 1 + k // 8) for k in range(24))


def _ins() -> bytes:
    head = (
        "timestamp,ins_status,latitude,longitude,altitude,northing,easting,down,utm_zone,"
        "velocity_north,velocity_east,velocity_down,roll,pitch,yaw\n"
    )
    row = "{},INS_SOLUTION_GOOD,51.76,-1.26,114.7,{},{},-114.7,30U,0.3,0,0,0,0,{}\n"
    return (head + _track(row)).encode()


def _rtk() -> bytes:
    head = (
        "timestamp,latitude,longitude,altitude,northing,easting,down,utm_zone,"
        "velocity_north,velocity_east,velocity_down,roll,pitch,yaw\n"
    )
    row = "{},51.76,-1.26,114.7,{},{},-114.7,30U,0.3,0,0,0,0,{}\n"
    return (head + _track(row)).encode()


def _gps() -> bytes:
    head = (
        "timestamp,num_satellites,latitude,longitude,altitude,latitude_sigma,"
        "longitude_sigma,altitude_sigma,northing,easting,down,utm_zone\n"
    )
    row = "{},8,51.76,-1.26,114.7,1,1,1,{},{},-114.7,30U\n"
    return (head + _track(row)).encode()


def _track(row: str) -> str:
    stamps = [1417500000000000 + 20000 * k for k in range(16)]
    return "".join(
        row.format(stamp, 5735848.0 + k, 620057.0 + k, 0.1 * k)
        for k, stamp in enumerate(stamps)
    )


def _robotcar(name: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from mlcore_robotcar.download import tables

        return getattr(tables, f"read_{name}")(path)

    return read


def _regions() -> bytes:
    return b"train\n619500 5735340\n620700 5735340\n620700 5736480\ntest\n1,2\n3,4\n5,9\n"


def _read_regions(path: Path) -> object:
    from mlcore_robotcar.regions import read_polygons

    return read_polygons(path)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for stamp in range(1417500000000000, 1417500000000004):
            member = tarfile.TarInfo(f"2014-12-02-15-30-08/stereo/centre/{stamp}.png")
            member.size = 100
            archive.addfile(member, io.BytesIO(b"x" * 100))
        member = tarfile.TarInfo("2014-12-02-15-30-08/gps/ins.csv")
        member.size = len(_ins())
        archive.addfile(member, io.BytesIO(_ins()))
    return buffer.getvalue()


def _read_tar(path: Path) -> object:
    from mlcore_robotcar.download.tables import read_ins
    from mlcore_robotcar.download.tar_members import Member
    from mlcore_robotcar.download.tars import read_member, scan_tar

    found = scan_tar(path, "stereo/centre")
    for name, place in found.tables.items():
        read_ins(Member(path, name, *place))
    where = zip(found.offsets.tolist(), found.sizes.tolist(), strict=True)
    return [read_member(path, offset, size) for offset, size in where]


def _robotcar_mat() -> bytes:
    import numpy as np

    stamps = range(1417500000000000, 1417500000000006)
    names = [f"2014-12-02-15-30-08/stereo/left/images/{stamp}.png" for stamp in stamps]
    positions = np.array([[5_735_000.0], [620_000.0]]) + np.arange(6.0)
    cells = np.array(names, dtype=object)[:, None]
    lists = {"dbImageFns": cells, "utmDb": positions, "qImageFns": cells, "utmQ": positions}
    return _savemat({"dbStruct": {"whichSet": "test", **lists, "posDistThr": 15.0}})


def _read_db_structs(path: Path) -> object:
    from mlcore_robotcar.config import RobotCarConfig
    from mlcore_robotcar.layouts.db_structs import open_db_structs

    return open_db_structs(RobotCarConfig(root=path.parent), path.parent)


def _png() -> bytes:
    return _image("L", "PNG")


def _image(mode: str, form: str, **more: Any) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.effect_noise((16, 12), 40).convert(mode).save(buffer, form, **more)
    return buffer.getvalue()


def _read_png(path: Path) -> object:
    from mlcore_robotcar.prepare.decode import decode_png, develop

    raw = decode_png(path.read_bytes(), path.name)
    return develop(raw, "stereo/centre", None, 240)


def _mat(*, struct: bool) -> bytes:
    import numpy as np

    names = np.array([f"000/{k:06d}_pitch1_yaw1.jpg" for k in range(6)], dtype=object)
    fields = {
        "whichSet": "test",
        "dbImageFns": names[:, None],
        "utmDb": 585_000.0 + np.arange(12.0).reshape(2, 6),
        "qImageFns": names[:3, None],
        "utmQ": 585_000.0 + np.arange(6.0).reshape(2, 3),
        "numImages": 6.0,
        "numQueries": 3.0,
        "posDistThr": 25.0,
        "posDistSqThr": 625.0,
        "nonTrivPosDistSqThr": 100.0,
    }
    return _savemat({"dbStruct": fields} if struct else fields)


def _savemat(variables: dict[str, Any]) -> bytes:
    from scipy.io import savemat

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spec.mat"
        savemat(str(path), variables)
        return path.read_bytes()


def _npz() -> bytes:
    import numpy as np

    names = np.array([f"000/{k:06d}_pitch1_yaw1.jpg" for k in range(6)])
    buffer = io.BytesIO()
    np.savez(
        buffer,
        utmDb=585_000.0 + np.arange(12.0).reshape(6, 2),
        utmQ=585_000.0 + np.arange(6.0).reshape(3, 2),
        dbImageFns=names,
        qImageFns=names[:3],
        posDistThr=np.array(25.0),
    )
    return buffer.getvalue()


def _read_spec(path: Path) -> object:
    from mlcore_pittsburgh.specs import read_spec

    return read_spec(path)


def _csv() -> bytes:
    rows = [f"a/{k}.jpg,{620000 + k}.5,{5735000 + k},0.1,sun" for k in range(12)]
    return "\n".join(["path,easting_m,northing_m,heading_rad,condition", *rows, ""]).encode()


def _quoted_csv() -> bytes:
    """Return a table with quoted values, blank lines, CRLF and a byte-order mark."""
    rows = [
        f'"a/{k}.jpg",{620000 + k}.5,"{5735000 + k}","two\nlines, ""{k}"""' for k in range(12)
    ]
    return "\r\n".join(["\ufeffpath,easting_m,northing_m,condition", "", *rows]).encode()


def _german_csv() -> bytes:
    """Return a table with semicolons, decimal commas and an umlaut in Windows-1252."""
    text = _csv().decode().replace(",", ";").replace(".5", ",5").replace("sun", "trüb")
    return text.replace("\n", "\r\n").encode("cp1252")


def _try_table(path: Path) -> object:
    """Read a table whose sound form is refused, too."""
    from mlcore.errors import DataError

    try:
        return _read_table(path)
    except DataError as error:
        return error


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.csv.read_csv(io.BytesIO(_csv())), buffer)
    return buffer.getvalue()


def _read_table(path: Path) -> object:
    from mlcore_images.checks.positions import read_positions
    from mlcore_images.config import ImagesConfig
    from mlcore_images.readers.tables import list_table

    listing = list_table(path, path.parent, ())
    return read_positions(listing, ImagesConfig())


def _name() -> bytes:
    return b"620000.5@5735000@30@U@51.7@-1.2@pano@4@90@0@0@1@201412@note@.jpg"


def _read_name(path: Path) -> object:
    from mlcore_images.checks.positions import read_positions
    from mlcore_images.config import ImagesConfig
    from mlcore_images.readers.names import list_names

    name = "@" + path.read_bytes().decode(errors="replace")
    listing = list_names(path.parent, [(PurePosixPath(), [name])])
    return read_positions(listing, ImagesConfig())


def _exif() -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (51.0, 45.0, 3.0), 3: "W", 4: (1.0, 15.0, 2.0)})
    return _image("RGB", "JPEG", exif=exif)


def _full_exif() -> bytes:
    """Return an image that is rotated and dated, with a heading beyond a turn."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "2014:12:02 15:30:08"
    gps = {1: "South", 2: (33.0, 51.4, 0.0), 3: "e", 4: (151.0, 12.0, 0.0), 17: 421.0}
    exif.get_ifd(0x8825).update(gps)
    return _image("RGB", "JPEG", exif=exif)


def _read_image(path: Path) -> object:
    from mlcore.data import read_image

    return read_image(path)


def _read_exif(path: Path) -> object:
    from mlcore_images.readers.exif import read_gps

    return read_gps(path)
