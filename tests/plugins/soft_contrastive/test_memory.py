"""Memory of tiles: how much is kept, what is lent, and that no two tiles overlap."""

from __future__ import annotations

import pytest
import torch

from mlcore_soft_contrastive.tiled.memory import TileMemory, most_kept

LIKE = torch.zeros(1)


def kept_tiles(memory: TileMemory, tiles: int) -> list[int]:
    return [k for k in range(tiles) if memory.keep(k) is not None]


@pytest.mark.parametrize(
    ("threads", "most", "kept"),
    [
        (1, None, [0, 1, 2, 3]),
        (1, 0, []),
        (1, 95, [2]),  # 90 pairs take 96 floats, 30 take 32
        (1, 96, [0]),
        (1, 128, [0, 2]),
        (1, 10_000, [0, 1, 2, 3]),
        (2, 96 + 128, [0, 2]),  # the second thread's scratch counts
        (3, 96, []),
    ],
)
def test_tiles_are_kept_up_to_a_limit(threads: int, most: int | None, kept: list[int]) -> None:
    memory = TileMemory(LIKE, [90, 90, 30, 90], largest=90, threads=threads, most=most)
    assert kept_tiles(memory, 4) == kept


def test_kept_tiles_do_not_overlap_and_start_on_whole_lines() -> None:
    memory = TileMemory(LIKE, [90, 17, 30], largest=90, threads=1, most=None)
    tiles = [memory.keep(k) for k in range(3)]
    for k, tile in enumerate(tiles):
        assert tile is not None
        tile.fill_(k)
        assert tile.storage_offset() % 16 == 0
    for k, size in enumerate([90, 17, 30]):
        kept = memory.kept(k)
        assert kept is not None
        assert len(kept) >= size
        assert (kept == k).all()


def test_what_is_forgotten_is_computed_again_and_nothing_is_kept_after_closing() -> None:
    memory = TileMemory(LIKE, [16, 16], largest=16, threads=1, most=None)
    assert memory.kept(0) is None
    assert memory.keep(0) is not None
    memory.forget(0)
    memory.forget(1)  # never kept
    assert memory.kept(0) is None
    memory.close()
    assert memory.keep(1) is None


def test_each_thread_has_its_own_scratch_and_gives_it_back() -> None:
    memory = TileMemory(LIKE, [16], largest=33, threads=2, most=0)
    with memory.scratch() as first, memory.scratch() as second:
        assert len(first) >= 33
        assert first.data_ptr() != second.data_ptr()
        with pytest.raises(IndexError), memory.scratch():
            pass
    with pytest.raises(RuntimeError), memory.scratch():
        raise RuntimeError
    with memory.scratch(), memory.scratch():
        pass


def test_kept_tiles_take_a_few_times_the_memory_of_the_embeddings() -> None:
    assert most_kept(1000, mining=False) == 3000 + 2**20
    assert most_kept(1000, mining=True) == 5000 + 2**20
