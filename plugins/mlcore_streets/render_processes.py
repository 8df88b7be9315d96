"""Renders many images into a file, in several processes if asked to.

Each image is a function of the configuration and its index, so that neither their number
nor their order changes a pixel. Run as a module, this file is one of the processes: a new
interpreter rather than a fork, because torch's threads do not survive one.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np

from mlcore.errors import DataError
from mlcore.protocols import Progress
from mlcore_streets.config import StreetsConfig
from mlcore_streets.districts import draw_districts, renderers

_DESCRIPTION = "rendering the town"
_REPORT_EVERY = 20


def render_to_file(
    config: StreetsConfig, path: Path, offset: int, num_images: int, progress: Progress
) -> None:
    """Write images 0 to ``num_images`` into ``path``, the first at byte ``offset``.

    Raises:
        OSError: The file cannot be written.
        DataError: A rendering process failed; what it said is on stderr.
    """
    progress(_DESCRIPTION, 0, num_images)
    if config.num_processes == 1:
        render_range(
            config, path, offset, 0, num_images,
            lambda done: progress(_DESCRIPTION, done, num_images),
        )  # fmt: skip
        return
    edges = np.linspace(0, num_images, config.num_processes + 1).round().astype(int).tolist()
    reports: queue.Queue[tuple[int, int]] = queue.Queue()
    workers: list[_Worker] = []
    try:
        for number, (start, stop) in enumerate(pairwise(edges)):
            job = [asdict(config), str(path), offset, start, stop]
            workers.append(_Worker(number, job, reports))
        _follow(workers, reports, num_images, progress)
    finally:
        for worker in workers:
            worker.stop()


def render_range(
    config: StreetsConfig,
    path: Path,
    offset: int,
    start: int,
    stop: int,
    report: Callable[[int], None],
) -> None:
    """Write images ``start`` to ``stop``; ``report`` is called with how many are done."""
    done = 0
    with path.open("r+b") as file:
        file.seek(offset + start * config.image_height_px * config.image_width_px * 3)
        for renderer, numbers in renderers(config, draw_districts(config), start, stop):
            for number in numbers:
                file.write(renderer.render(number).tobytes())
                done += 1
                if done % _REPORT_EVERY == 0 or done == stop - start:
                    report(done)
        file.flush()
        os.fsync(file.fileno())


class _Worker:
    """A process that renders a range, and the thread that listens to it."""

    def __init__(
        self, number: int, job: list[object], reports: queue.Queue[tuple[int, int]]
    ) -> None:
        self._number = number
        self._reports = reports
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, this module
            [sys.executable, "-m", "mlcore_streets.render_processes", json.dumps(job)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._reports.put((self._number, int(line)))
        self._reports.put((self._number, -1 - abs(self._process.wait())))

    def stop(self) -> None:
        """End the process, whether it is done or not."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _follow(
    workers: list[_Worker],
    reports: queue.Queue[tuple[int, int]],
    num_images: int,
    progress: Progress,
) -> None:
    done = [0] * len(workers)
    running = len(workers)
    while running:
        number, count = reports.get()
        if count >= 0:
            done[number] = count
            progress(_DESCRIPTION, sum(done), num_images)
        elif count == -1:
            running -= 1
        else:
            raise DataError(
                f"rendering process {number} ended with exit code {-1 - count}; see its "
                "output above. --dataset.num_processes 1 renders in this process"
            )


def main(job: str) -> None:
    """Render the range that ``job`` describes, in JSON; report on stdout."""
    options, path, offset, start, stop = json.loads(job)
    config = StreetsConfig(**options)

    def report(done: int) -> None:
        sys.stdout.write(f"{done}\n")
        sys.stdout.flush()

    render_range(config, Path(path), offset, start, stop, report)


if __name__ == "__main__":
    main(sys.argv[1])
