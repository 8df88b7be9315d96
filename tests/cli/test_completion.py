"""Words that a shell offers."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from mlcore.cli.commands.completion import SCRIPTS, candidates
from mlcore.cli.main import COMMANDS, main


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tra"], {"train"}),
        (["list", ""], {"losses", "models", "datasets"}),
        (["data", ""], {"check", "prepare", "write"}),
        (["help", "com"], {"compare", "completion"}),
        (["train", "--l"], {"--loss", "--loss.beta"}),
        (["train", "--loss", "propo"], {"proposed"}),
        (["train", "--loss", "triplet", "--loss."], {"--loss.margin"}),
        (["train", "--training.schedule", ""], {"constant", "cosine"}),
        (["train", "--training.augment", ""], {"true", "false"}),
        (["index", "runs/a", "--index", ""], {"flat", "ivf"}),
        (["compare", "--split", ""], {"test", "validation"}),
        (["evaluate", "runs/a", "--evaluation.whitening", ""], {"none", "train"}),
        (["data", "check", ""], {"streets", "images"}),
        (["plugins", "--json", "p"], {"proposed", "pittsburgh"}),
        (["train", "--loss", "=", "propo"], {"proposed"}),  # as bash splits --loss=propo
        (["train", "--loss", "="], {"proposed", "triplet"}),
        (["compare", "--split", "=", "te"], {"test"}),
    ],
)
def test_offered(words, offered):
    assert offered <= set(candidates(words))
    assert all(one.startswith(words[-1].strip("=")) for one in candidates(words))


def test_a_flag_and_its_value_in_one_word():
    assert candidates(["train", "--loss=propo"]) == ["--loss=proposed"]
    assert candidates(["train", "--loss=triplet", "--loss.marg"]) == ["--loss.margin"]


def test_an_argument_is_offered_where_it_is_expected():
    assert candidates(["list", "losses", ""]) == []
    assert "check" not in candidates(["data", "check", ""])
    assert "streets" not in candidates(["data", "--map", "m.png", ""])


def test_options_of_the_chosen_loss_only():
    assert "--loss.beta" not in candidates(["train", "--loss", "triplet", "--loss."])


@pytest.mark.parametrize(
    "words", [["nonsense", ""], ["train", "--loss", "nonsense", "--"], ["train", "--out", ""]]
)
def test_nothing_to_offer_is_no_error(words):
    assert candidates(words) == []


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts(capsys, shell):
    assert main(["completion", shell]) == 0
    assert "mlcore completion --for" in capsys.readouterr().out


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_in_json(capsys, shell):
    assert main(["completion", shell, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"shell": shell, "script": SCRIPTS[shell]}


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_reads_its_script():
    script = (
        f"{SCRIPTS['bash']}\nmlcore() {{ echo train; }}\nCOMP_WORDS=(mlcore tr) COMP_CWORD=1\n"
    )
    script += '_mlcore; echo "${COMPREPLY[@]}"; complete -p mlcore'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "train"
    assert "-F _mlcore mlcore" in done.stdout


def test_every_command_is_offered():
    assert set(COMMANDS) <= set(candidates([""]))


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_read_their_script(shell):
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    setup = "autoload -Uz compinit; compinit -u -D\n" if shell == "zsh" else ""
    ask = "print ${_comps[mlcore]}" if shell == "zsh" else "complete -C 'mlcore tr'"
    answer = "function mlcore; echo train; end\n" if shell == "fish" else ""
    script = f"{setup}{answer}{SCRIPTS[shell]}\n{ask}"
    plain = "-f" if shell == "zsh" else "--no-config"
    done = subprocess.run(
        [shell, plain, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == ("_mlcore" if shell == "zsh" else "train")
    assert not done.stderr
