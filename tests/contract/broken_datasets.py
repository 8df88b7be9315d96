"""A data set that is right, and faults beside the checks that they fail."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from mlcore import DataError, DatasetFactory, PlaceTable, Split

ORIGIN_M = (455_000.0, 5_735_000.0)


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


class Road:
    """Right in every respect: three stretches of a road, 40 images each."""

    fingerprint = "road-1"
    notes = ()

    def __init__(self, config, context):
        self.train, self.validation, self.test = (self.split(n) for n in range(3))

    def split(self, number):
        table = self.table(number)
        return Split(references=table.take(slice(0, 20)), queries=table.take(slice(20, 40)))

    def table(self, number):
        along = np.tile(np.arange(20) * 2.0, 2) + self.start_m(number)
        code = np.repeat(np.arange(2), 20)
        return PlaceTable(
            index=np.arange(40) + 40 * number,
            positions_m=np.stack([along, np.zeros(40)], axis=1) + ORIGIN_M,
            headings_rad=np.zeros(40),
            arc_length_m=along,
            traversal=code,
            traversals=("morning", "evening"),
            condition=code,
            conditions=("sun", "night"),
        )

    def start_m(self, number):
        return 500.0 * number

    def load_image(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, (3, 8, 12), dtype=torch.uint8, generator=generator)

    def image_name(self, index):
        return f"road/{index:03d}.png"


def dataset_factory(build=Road, **changes):
    declared = {
        "name": "road",
        "summary": "three stretches of a road",
        "config": Config,
        "build": build,
    }
    return DatasetFactory(**(declared | changes))


class Crashes(Road):
    def split(self, number):
        return {}["root"]


class NoData(Road):
    def split(self, number):
        raise DataError("no folder /road; give --dataset.root")


class Int32Index(Road):
    def table(self, number):
        table = super().table(number)
        return replace(table, index=table.index.astype(np.int32))


class TwiceTheSame(Road):
    def table(self, number):
        table = super().table(number)
        return replace(table, index=table.index // 2)


class UnnamedTraversal(Road):
    def table(self, number):
        return replace(super().table(number), traversals=("morning",))


class Degrees(Road):
    def table(self, number):
        table = super().table(number)
        return replace(
            table, positions_m=(table.positions_m - ORIGIN_M) / 111_000 + (8.5, 47.4)
        )


class HeadingsInDegrees(Road):
    def table(self, number):
        return replace(super().table(number), headings_rad=np.full(40, 90.0))


class Shuffled(Road):
    def table(self, number):
        table = super().table(number)
        order = np.random.default_rng(0).permutation(20)
        positions = table.positions_m.copy()
        positions[:20, 0] += 400 * order
        return replace(table, positions_m=positions)


class OneStretch(Road):
    def start_m(self, number):
        return 20.0 * number


class FloatImages(Road):
    def load_image(self, index):
        return super().load_image(index).float() / 255


class OneName(Road):
    def image_name(self, index):
        return "road"


class Noisy(Road):
    def load_image(self, index):
        return torch.randint(0, 256, (3, 8, 12), dtype=torch.uint8)


class RandomOrder(Road):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.fingerprint = str(np.random.default_rng().integers(1 << 60))


class HoldsFunction(Road):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.decode = lambda image: image


class OneBuffer(Road):
    buffer = torch.zeros((3, 8, 12), dtype=torch.uint8)

    def load_image(self, index):
        return self.buffer.copy_(super().load_image(index))


class SameImages(Road):
    def table(self, number):
        return replace(super().table(number), index=np.arange(40))


class UnknownHeadings(Road):
    def table(self, number):
        return replace(super().table(number), headings_rad=np.full(40, np.nan))


class Truncated(Road):
    def load_image(self, index):
        if index > 60:
            raise OSError("truncated")
        return super().load_image(index)


class Prints(Road):
    def load_image(self, index):
        print(index)  # noqa: T201 - what is to be found
        return super().load_image(index)


DATASETS = {
    "fills one tensor again and again": (dataset_factory(OneBuffer), {"images"}),
    "test images in train": (dataset_factory(SameImages), {"splits-disjoint"}),
    "headings that are not known": (dataset_factory(UnknownHeadings), {"metres-plausible"}),
    "images that cannot be read": (dataset_factory(Truncated), {"images"}),
    "prints": (dataset_factory(Prints), {"leaves-no-trace"}),
    "raises what nobody understands": (dataset_factory(Crashes), {"opens"}),
    "int32 index": (dataset_factory(Int32Index), {"lengths"}),
    "an image twice": (dataset_factory(TwiceTheSame), {"lengths", "images"}),
    "a code without a name": (dataset_factory(UnnamedTraversal), {"lengths"}),
    "degrees": (dataset_factory(Degrees), {"metres-plausible", "splits-disjoint"}),
    "headings in degrees": (dataset_factory(HeadingsInDegrees), {"metres-plausible"}),
    "rows in no order": (dataset_factory(Shuffled), {"metres-plausible"}),
    "splits that overlap": (dataset_factory(OneStretch), {"splits-disjoint"}),
    "float images": (dataset_factory(FloatImages), {"images"}),
    "one name for all images": (dataset_factory(OneName), {"images"}),
    "images of the global generator": (dataset_factory(Noisy), {"deterministic", "picklable"}),
    "another fingerprint each time": (dataset_factory(RandomOrder), {"deterministic"}),
    "cannot be pickled": (dataset_factory(HoldsFunction), {"picklable"}),
}
