"""What a command cannot write, or cannot use, is said before it works: exit 2, one sentence."""

from __future__ import annotations

import pytest

from mlcore.cli.main import main


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("localize RUN a.jpg --picture DIR", "--picture DIR is a folder"),
        ("localize RUN a.jpg --picture DIR/p.jpeg", "--picture DIR/p.jpeg must end in .png"),
        ("localize RUN a.jpg --predictions DIR", "--predictions DIR is a folder"),
        ("localize RUN no-blank.jpg a\tb.jpg --predictions DIR/p.txt", "contains blanks"),
        ("data check images --map DIR", "--map DIR is a folder"),
        ("data check images --map DIR/map.pdf", "--map DIR/map.pdf must end in .png"),
        ("data check images --map DIR/no/map.png", "the folder DIR/no does not exist"),
        ("tsne RUN --out DIR/tsne.png/", "--out DIR/tsne.png is a folder"),
        ("train --print-config --json", "--json has no effect with --print-config"),
        ("train --resume RUN --print-config", "--print-config does not apply to --resume"),
        ("train --out DIR", "DIR exists already; choose another folder"),
        ("new-plugin class", "'class' is a word of the Python language"),
        *[
            (
                f"compare --losses proposed --learning-rates 1e-3,{rate} --out DIR/compared",
                f"must be finite and greater than 0, got {rate}",
            )
            for rate in ("nan", "inf", "0", "-1")
        ],
    ],
)
def test_one_sentence_before_any_work(tmp_path, capsys, command, said):
    folder = tmp_path / "folder"
    (folder / "tsne.png").mkdir(parents=True)
    words = command.replace("DIR", str(folder)).replace("RUN", str(tmp_path / "run"))
    assert main(words.split(" ")) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("mlcore: error: ")
    assert said.replace("DIR", str(folder)) in message
    assert "--resume" not in message or "--resume" in command
