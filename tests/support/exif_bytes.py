"""EXIF blocks byte by byte, also such as no standard allows and cameras write."""

from __future__ import annotations

import io
import struct

from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12
_FORMS = {SHORT: "H", LONG: "L", RATIONAL: "LL", SRATIONAL: "ll", DOUBLE: "d"}


def jpeg(main=(), gps=None, order="<", size=(64, 48), taken=None):
    """A JPEG with an EXIF block of ``(tag, type, values)`` entries, and when it was taken."""
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, "JPEG")
    plain = buffer.getvalue()
    block = exif(main, gps, order, taken)
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]


def exif(main=(), gps=None, order="<", taken=None):
    date = None if taken is None else [(0x9003, ASCII, taken)]
    parts = {tag: part for tag, part in ((0x8769, date), (0x8825, gps)) if part is not None}
    pointers = [(tag, LONG, [0]) for tag in parts]
    end = 8 + len(_directory([*main, *pointers], 8, order))
    tail, pointers = b"", []
    for tag, part in parts.items():
        pointers.append((tag, LONG, [end + len(tail)]))
        tail += _directory(part, end + len(tail), order)
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HL", 42, 8)
    return b"Exif\0\0" + start + _directory([*main, *pointers], 8, order) + tail


def _directory(entries, offset, order):
    entries = sorted(entries, key=lambda entry: entry[0])
    at = offset + 2 + 12 * len(entries) + 4
    fields, extra = b"", b""
    for tag, kind, values in entries:
        count, raw = _value(kind, values, order)
        if len(raw) > 4:
            cell = struct.pack(order + "L", at + len(extra))
            extra += raw + b"\0" * (len(raw) % 2)
        else:
            cell = raw.ljust(4, b"\0")
        fields += struct.pack(order + "HHL", tag, kind, count) + cell
    return struct.pack(order + "H", len(entries)) + fields + bytes(4) + extra


def _value(kind, values, order):
    if kind in (BYTE, ASCII, UNDEFINED):
        return len(values), bytes(values)
    packed = [
        struct.pack(order + _FORMS[kind], *(one if isinstance(one, tuple) else (one,)))
        for one in values
    ]
    return len(values), b"".join(packed)


def gps(latitude, longitude, latitude_ref=(ASCII, b"S\0"), longitude_ref=(ASCII, b"E\0")):
    """GPS entries; ``latitude`` and ``longitude`` are ``(type, values)``, a reference may be None."""
    references = [(1, latitude_ref), (3, longitude_ref)]
    return [
        *((tag, *reference) for tag, reference in references if reference is not None),
        (2, *latitude),
        (4, *longitude),
    ]
