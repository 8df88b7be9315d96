"""Exit codes and messages of ``mlcore``, whatever a command does."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import types
from importlib import import_module

import pytest
from PIL import Image

import mlcore
from mlcore.cli import main as cli
from mlcore.errors import ConfigError, DataError, NonFiniteLossError
from mlcore.files import atomic_write

FULL = "No space left on device; free some space, or choose another disk"


@pytest.fixture
def command(monkeypatch):
    """Return a function that makes ``mlcore fake`` run the given body."""

    def install(body):
        module = types.ModuleType("mlcore.cli.commands.fake")
        module.run = body
        monkeypatch.setitem(sys.modules, "mlcore.cli.commands.fake", module)
        monkeypatch.setitem(cli.COMMANDS, "fake", "do nothing")

    return install


def raises(error):
    def body(argv):
        raise error

    return body


def test_every_command_has_its_module_and_a_line_of_help():
    for name, summary in cli.COMMANDS.items():
        assert summary
        assert f"  {name} " in cli.help_text()


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help(capsys, argv):
    assert cli.main(argv) == 0
    assert capsys.readouterr().out == cli.help_text() + "\n"


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mlcore {mlcore.__version__}\n"


def test_version_in_json(capsys):
    assert cli.main(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"mlcore": mlcore.__version__}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--version", "foo"], "mlcore --version: unexpected argument 'foo'"),
        (
            ["train", "--resize", "480", "640"],
            "mlcore train: unexpected argument '640'; --resize",
        ),
        (["index", "run", "--out", "map\udcff"], "--out 'map\\udcff' is not UTF-8 text"),
        (["plugin"], "unknown command 'plugin'; did you mean 'plugins'?"),
        (["--versio"], "unknown option '--versio'; did you mean '--version'?"),
        (["nonsense"], "unknown command 'nonsense'; known: compare, completion, "),
    ],
)
def test_unknown_commands(capsys, argv, message):
    assert cli.main(argv) == 2
    assert capsys.readouterr().err.startswith(f"mlcore: error: {message}")


def test_a_command_gets_its_words_and_gives_its_code(command):
    seen = []
    command(lambda argv: seen.extend(argv) or 1)
    assert cli.main(["fake", "--block", "x", "--traceback", "y"]) == 1
    assert seen == ["--block", "x", "y"]


def os_error(number, *files):
    return OSError(number, os.strerror(number), *files)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("no such thing"), 2, "mlcore: error: no such thing\n"),
        (NonFiniteLossError("the loss is nan"), 1, "mlcore: error: the loss is nan\n"),
        (KeyboardInterrupt(), 130, "mlcore: interrupted\n"),
        (
            os_error(errno.ENOSPC, "runs/a/config.toml"),
            2,
            f"mlcore: error: runs/a/config.toml: {FULL}\n",
        ),
        (os_error(errno.ENOSPC), 2, f"mlcore: error: {FULL}\n"),
        (
            os_error(errno.EACCES, "a", None, "b"),
            2,
            "mlcore: error: a and b: Permission denied\n",
        ),
        (OSError("something"), 2, "mlcore: error: something\n"),
    ],
)
def test_errors_are_one_message(capsys, command, error, code, message):
    command(raises(error))
    assert cli.main(["fake"]) == code
    assert capsys.readouterr() == ("", message)


def test_an_error_of_a_data_loading_process_is_its_message_only(capsys, command):
    from torch._utils import ExceptionWrapper

    message = "a.jpg cannot be read;\nit is empty"
    try:
        raises(DataError(message))([])
    except DataError:
        wrapper = ExceptionWrapper(where="in DataLoader worker process 0")
    command(lambda _argv: wrapper.reraise())
    assert cli.main(["fake"]) == 2
    assert capsys.readouterr().err == f"mlcore: error: {message}\n"


def test_a_full_disk_names_the_file(capsys, command, tmp_path):
    def body(argv):
        with atomic_write(tmp_path / "config.toml"):
            raise os_error(errno.ENOSPC)

    command(body)
    assert cli.main(["fake"]) == 2
    message = f"mlcore: error: {tmp_path / 'config.toml'}: {FULL}\n"
    assert capsys.readouterr().err == message
    assert list(tmp_path.iterdir()) == []


def test_traceback_on_request(capsys, command):
    command(raises(ConfigError("no such thing")))
    assert cli.main(["--traceback", "fake"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback")
    assert printed.endswith("mlcore: error: no such thing\n")


def test_a_defect_of_ours_keeps_its_traceback(command):
    command(raises(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["fake"])


@pytest.mark.parametrize("given", [None, 0, 3, "bye"])
def test_a_plugin_that_exits_is_an_error(command, capsys, given):
    command(raises(SystemExit(given)))
    assert cli.main(["fake"]) == 2
    assert f"ended the command with SystemExit({given!r})" in capsys.readouterr().err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command(capsys, name):
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: mlcore {name}")
    if name != "help":
        assert cli.main(["help", name]) == 0
        assert capsys.readouterr().out == shown


def test_help_of_nothing_and_of_nonsense(capsys):
    assert cli.main(["help"]) == 0
    assert capsys.readouterr().out == cli.help_text() + "\n"
    assert cli.main(["help", "trian"]) == 2
    assert "unknown command 'trian'; did you mean 'train'?" in capsys.readouterr().err


def test_help_in_json(capsys):
    assert cli.main(["help", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["commands"] == cli.COMMANDS
    assert found["help"] == cli.help_text() + "\n"
    assert cli.main(["help", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["command"] == "list"
    assert found["help"].startswith("usage: mlcore list")


@pytest.mark.parametrize("name", ["train", "data", "list"])
def test_help_of_a_command_is_on_stdout_and_in_json(capsys, name):
    assert cli.main(["help", name, "--json"]) == 0
    captured = capsys.readouterr()
    shown = json.loads(captured.out)["help"]
    assert shown.startswith(f"usage: mlcore {name}")
    assert cli.main([name, "--help", "--json"]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_json(name):
    flags = import_module(cli.module_of(name)).make_parser().flags()
    assert "--json" in flags


def test_sigterm_runs_finally_clauses_and_is_143(capsys, command):
    saved = []

    def body(argv):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            saved.append(True)

    command(body)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["fake"]) == 143
    assert saved == [True]
    assert capsys.readouterr().err == "mlcore: terminated\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_closed_pipe_is_no_error():
    script = f"{sys.executable} -m mlcore list models | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


HEAVY = {"torch", "numpy", "lightning", "PIL", "scipy", "pytorch_metric_learning"}


@pytest.mark.parametrize(
    ("argv", "unwanted"),
    [
        (["--help"], HEAVY | {"rich"}),
        (["--version"], HEAVY | {"rich"}),
        (["plugins"], HEAVY),
        (["plugins", "small-cnn"], HEAVY),
        (["plugins", "proposed"], HEAVY),
        (["list", "losses"], HEAVY),
        (["list", "datasets", "--json"], HEAVY | {"rich"}),
        (["train", "--help"], HEAVY | {"rich"}),
        (["completion", "bash"], HEAVY | {"rich"}),
        (["completion", "--for", "train", "--loss", "p"], HEAVY | {"rich"}),
    ],
)
def test_what_only_tells_imports_nothing_heavy(argv, unwanted):
    script = (
        "import sys; from mlcore.cli.main import main; code = main(sys.argv[1:])\n"
        f"print(sorted({unwanted!r} & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *argv], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


def run_shell(line, **environment):
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_a_closed_stdout_is_one_sentence():
    done = run_shell(f"{sys.executable} -m mlcore list models >&-")
    assert done.returncode == 2
    assert done.stderr == (
        "mlcore: error: standard output is closed; redirect it to a file or /dev/null\n"
    )


def test_a_locale_without_umlauts():
    locale = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = run_shell(f"{sys.executable} -m mlcore list 'bücher'", **locale)
    assert done.returncode == 2
    assert "unknown kind" in done.stderr
    assert "Traceback" not in done.stderr
    done = run_shell(f"{sys.executable} -m mlcore list models", **locale)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("folder", "name"), [("Straße", "a"), ("road", "ä")])
def test_training_in_a_locale_without_umlauts_names_the_remedy(tmp_path, folder, name):
    root = tmp_path / folder
    root.mkdir()
    rows = [
        f"{name}{n}.jpg,{458_000 + 9 * n},5550000,{'train' if n < 4 else 'test'}"
        for n in range(8)
    ]
    table = "\n".join(["path,easting_m,northing_m,split", *rows])
    (root / "positions.csv").write_text(table, encoding="utf-8")
    for n in range(8):
        Image.new("RGB", (48, 32), (20 * n, 9, 9)).save(root / f"{name}{n}.jpg")
    locale = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    line = f"{sys.executable} -m mlcore train --dataset images --dataset.root '{root}'"
    done = run_shell(f"{line} --out '{tmp_path}/run'", **locale)
    assert done.returncode == 2
    assert "set PYTHONUTF8=1, or a locale in UTF-8" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_plugin_that_closes_stdout_gets_one_sentence(capsys, command, monkeypatch):
    closed = io.StringIO()

    def close_and_write(_argv):
        monkeypatch.setattr(sys, "stdout", closed)
        closed.close()
        print("a result")  # noqa: T201 - as a command does

    command(close_and_write)
    assert cli.main(["fake"]) == 2
    assert "a plugin or library closed sys.stdout" in capsys.readouterr().err
