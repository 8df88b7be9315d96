"""Memory that this process may use: the machine's, bounded by each cgroup above it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from mlcore.training.host_memory import HostMemory, host_memory


class Machine(NamedTuple):
    total: int
    available: int


GB = 10**9


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: Machine(64 * GB, 40 * GB))


def write(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root


V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, (64 * GB, 40 * GB), id="no cgroups"),
        pytest.param({"proc/self/cgroup": "0::/"}, (64 * GB, 40 * GB), id="no limit"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/job/step",
                f"{V2}/job/step/memory.max": "max",
                f"{V2}/job/step/memory.current": GB,
            },
            (64 * GB, 40 * GB),
            id="limit max",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/job/step",
                f"{V2}/job/step/memory.max": 32 * GB,
                f"{V2}/job/step/memory.current": 1 * GB,
                f"{V2}/job/memory.max": 8 * GB,
                f"{V2}/job/memory.current": 3 * GB,
            },
            (8 * GB, 5 * GB),
            id="the job's limit holds for its step",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/seen/by/the/host",
                f"{V2}/memory.max": 4 * GB,
                f"{V2}/memory.current": 5 * GB,
            },
            (4 * GB, 0),
            id="a container, over its limit",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:cpu,memory:/user:slice\n2:pids:/user\n0::/",
                f"{V1}/user:slice/memory.limit_in_bytes": 16 * GB,
                f"{V1}/user:slice/memory.usage_in_bytes": 2 * GB,
                f"{V1}/memory.limit_in_bytes": 2**63 - 4096,
                f"{V1}/memory.usage_in_bytes": 9 * GB,
            },
            (16 * GB, 14 * GB),
            id="version 1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/",
                f"{V2}/memory.max": 128 * GB,
                f"{V2}/memory.current": 100 * GB,
            },
            (64 * GB, 28 * GB),
            id="a limit above what the machine has",
        ),
    ],
)
def test_the_tightest_limit_counts(tmp_path, files, expected):
    assert host_memory(write(tmp_path, files)) == HostMemory(*expected)
