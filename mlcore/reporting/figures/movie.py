"""Write frames to an MP4 that browsers play (H.264, yuv420p), streaming them to ffmpeg."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError, MlcoreError, require_library
from mlcore.files import atomic_write


def find_ffmpeg() -> str:
    """Return the path of ffmpeg: imageio-ffmpeg's own, or the one set for it.

    Raises:
        ConfigError: There is none.
    """
    require_library("a movie", "imageio_ffmpeg", "mlcore-localization[figures]")
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        return str(get_ffmpeg_exe())
    except RuntimeError as error:
        raise ConfigError(
            "a movie needs ffmpeg, and imageio-ffmpeg finds none; name a program in the "
            "environment variable IMAGEIO_FFMPEG_EXE"
        ) from error


def save_movie(
    frames: Iterator[NDArray[np.uint8]], path: Path, *, frames_per_second: float
) -> int:
    """Encode frames as they arrive and return their number.

    Memory: one frame and the encoder's buffers, whatever the length of the movie.

    Args:
        frames: ``(H, W, 3)`` uint8 each, all of one size, both sides even.
        path: The MP4 to write; it is written completely or not at all.
        frames_per_second: Frame rate of the movie.

    Raises:
        ConfigError: There is no ffmpeg.
        DataError: There is no frame.
        MlcoreError: ffmpeg failed; the message is ffmpeg's.
    """
    program = find_ffmpeg()
    first = next(frames, None)
    if first is None:
        raise DataError("a movie needs at least one frame")
    with atomic_write(path) as file, tempfile.TemporaryFile() as said:
        command = _command(program, first.shape, frames_per_second, file.name)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said) as encoder:  # noqa: S603
            try:
                count = _send(encoder, first, frames)
            except BaseException:
                encoder.kill()
                raise
        if encoder.returncode != 0:
            said.seek(0)
            message = " ".join(said.read().decode(errors="replace").split())
            raise MlcoreError(f"ffmpeg could not write {path}: {message or 'it stopped early'}")
    return count


def _command(
    program: str, shape: tuple[int, ...], frames_per_second: float, out: str
) -> list[str]:
    height, width, _ = shape
    rate = f"{frames_per_second:g}"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate]
    quality = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "23"]
    # The index goes to the front, so that a browser can start before it has it all.
    form = ["-movflags", "+faststart", "-f", "mp4"]
    return [program, "-y", "-v", "error", *source, "-i", "-", "-an", *quality, *form, out]


def _send(
    encoder: subprocess.Popen[bytes],
    frame: NDArray[np.uint8],
    frames: Iterator[NDArray[np.uint8]],
) -> int:
    """Write the frames to the encoder, close its input and return their number."""
    assert encoder.stdin is not None
    count = 0
    following: NDArray[np.uint8] | None = frame
    try:
        while following is not None:
            encoder.stdin.write(np.ascontiguousarray(following).data)
            count += 1
            following = next(frames, None)
        encoder.stdin.close()
    except BrokenPipeError:
        with suppress(BrokenPipeError):
            encoder.stdin.close()
        encoder.wait()  # it died, and says why
        if encoder.returncode == 0:
            raise MlcoreError("ffmpeg stopped before it had received all frames") from None
    return count
