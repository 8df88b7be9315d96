"""A fresh environment for packages that someone else could have written."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

# The example is a package of its own, with tests that run where it is installed.
collect_ignore = ["mlcore_example"]


@dataclass(frozen=True)
class Environment:
    """A virtual environment that sees the packages of the tests', and has others of its own."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(
        self, *words: str | Path, cwd: Path | None = None, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as in a shell where the environment is activated."""
        changed = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            # No network: what would be downloaded is what the tests' environment has.
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "false",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "MLCORE_STRICT_PLUGINS": "1",
            "OMP_NUM_THREADS": "1",
        }
        dropped = {"PYTHONPATH", "MLCORE_PLUGINS", "PYTEST_ADDOPTS"}
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd or self.folder,
            env=kept | changed,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment of a module's own: what it installs, no other test sees."""
    folder = tmp_path_factory.mktemp("thirdparty") / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    made = Environment(folder)
    outer = sysconfig.get_path("purelib")
    inner = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    # addsitedir and not a bare path: mlcore may be installed there by a .pth of its own.
    line = f"import site; site.addsitedir({outer!r})\n"
    (Path(inner) / "tests_environment.pth").write_text(line)
    command = folder / "bin" / "mlcore"
    command.write_text(
        f"#!{made.python}\nimport sys\nfrom mlcore.cli.main import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    assert sys.prefix not in made.run("python", "-c", "import sys; print(sys.prefix)").stdout
    return made
