"""Words that a shell offers."""

from __future__ import annotations

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
        (["compare", "--split", ""], {"test", "validation"}),
        (["evaluate", "runs/a", "--evaluation.whitening", ""], {"none", "train"}),
    ],
)
def test_offered(words, offered):
    assert offered <= set(candidates(words))
    assert all(one.startswith(words[-1]) for one in candidates(words))


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
