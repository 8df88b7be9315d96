"""Every flag and option of a command on a run changes something, or is refused.

A command is run with and without the option, in two copies of one folder. What may change is
the exit code, what is printed, the files, and the sizes of the batches that are embedded.
"""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image

from mlcore.cli.main import COMMANDS, main, module_of
from mlcore.models.embedding import EmbeddingModel
from mlcore.options.engine import EvaluationOptions

SUPPORT = Path(__file__).parents[1] / "support"
SENECA = Path(__file__).parents[2] / "examples" / "seneca"
TINY = (
    "--dataset synthetic --model.width 8 --model.embedding_dim 16 --sampling.near_per_tuple 3 "
    "--sampling.far_per_tuple 3 --training.max_steps 4 --training.checkpoint_every 2 "
    "--training.log_every 1 --evaluation.dimensions 8 --evaluation.baselines false"
)
BASES = {
    "completion": "completion bash",
    "help": "help",
    "compare": f"compare --losses proposed,triplet {TINY} --out out",
    "data": "data check synthetic",
    "data_draft": f"data draft {SENECA} --out out.csv",
    "data_write": "data write pittsburgh --from synthetic --out out",
    "embed": "embed run --out out.npy",
    "evaluate": "evaluate run",
    "explain": "explain run --out out.png",
    "export": "export map --format faiss --out out.faiss",
    "index": "index run --out out",
    "list": "list losses",
    "localize": "localize run photos/425.png",
    "movie": "movie run --frames 3 --panel 64 --out out.mp4",
    "new-plugin": "new-plugin my-loss",
    "plugins": "plugins",
    "report": "report run --pictures 1 --explained 1",
    "reproduce": "reproduce stopped",
    "sweep": "sweep run --dimensions 2,4,8 --spacings 0,4 --out out",
    "train": f"train {TINY} --out out",
    "tsne": "tsne run --method pca --out out.png",
}
BLOCK = "--block mlcore_synthetic"
OWN_FLAGS = {
    "completion --json": "--json",
    "help --json": "--json",
    "compare --block": BLOCK,
    "compare --json": "--json",
    "compare --launcher": "--launcher slurm",
    "compare --learning-rates": "--learning-rates 1e-3,1e-2",
    "compare --losses": "--losses proposed,log-ratio",
    "compare --out": "--out other",
    "compare --parallel": "--parallel 2",
    "compare --seeds": "--seeds 1",
    "compare --slurm": "--slurm time=1",
    "compare --split": "--split validation",
    "compare --vary": "--vary sampling.place_cell_m=10,20",
    "data --block": BLOCK,
    "data --full": "--full --dataset.broken 3",
    "data --json": "--json",
    "data --map": "--map out.png",
    "data --out": "--out out",
    "data_draft --block": "--block mlcore_images",
    "data_draft --dataset": "--dataset streets",
    "data_draft --json": "--json",
    "data_draft --map": "--map out.png",
    "data_draft --out": "--out other.csv",
    "data_write --block": BLOCK,
    "data_write --from": "--from streets --from.train_length_m 10",
    "data_write --json": "--json",
    "data_write --out": "--out other",
    "embed --block": BLOCK,
    "embed --images": "--images photos",
    "embed --json": "--json",
    "embed --out": "--out other.npy",
    "embed --shard_size": "--shard_size 40 --out shards",
    "embed --split": "--split validation",
    "evaluate --block": BLOCK,
    "evaluate --json": "--json",
    "evaluate --out": "--out other.json",
    "evaluate --split": "--split validation",
    "explain --best": "--best 2",
    "explain --block": BLOCK,
    "explain --json": "--json",
    "explain --out": "--out other.png",
    "explain --query": "--query synthetic/0425",
    "explain --split": "--split validation",
    "explain --within": "--within 500",
    "explain --worst": "--worst 1",
    "export --block": BLOCK,
    "export --format": "--format safetensors",
    "export --images": "--images photos",
    "export --json": "--json",
    "export --layout": "--layout BHWC",
    "export --out": "--out other.faiss",
    "export --queries": "--queries photos",
    "export --top": "--top 3",
    "index --append": "--append",
    "index --block": BLOCK,
    "index --images": "--images photos",
    "index --index": "--index fp16",
    "index --json": "--json",
    "index --out": "--out other",
    "index --split": "--split validation",
    "index --thumbnails": "--thumbnails 32",
    "list --block": "--block mlcore_pml",
    "list --json": "--json",
    "localize --block": BLOCK,
    "localize --json": "--json",
    "localize --picture": "--picture out.png",
    "localize --predictions": "--predictions out.txt",
    # What reranking does to an unsure answer: tests/plugins/test_verification.py.
    "localize --rerank": "--rerank 3",
    "localize --reranker": "--reranker nothing",
    "localize --split": "--split validation",
    "localize --top": "--top 3",
    "movie --block": BLOCK,
    "movie --fps": "--fps 2",
    "movie --frames": "--frames 2",
    "movie --json": "--json",
    "movie --out": "--out other.mp4",
    "movie --panel": "--panel 80",
    "movie --split": "--split validation",
    "movie --traversal": "--traversal night",
    "movie --within": "--within 0.1",
    "new-plugin --json": "--json",
    "new-plugin --out": "--out other",
    "new-plugin --provides": "--provides miner",
    "plugins --block": "--block mlcore_pml",
    "plugins --check": "--check",
    "plugins --json": "--json",
    "report --block": BLOCK,
    "report --explained": "--explained 0",
    "report --json": "--json",
    "report --out": "--out other.html",
    "report --pictures": "--pictures 2",
    "report --within": "--within 3",
    "reproduce --block": BLOCK,
    "reproduce --json": "--json",
    "sweep --at": "--at 3",
    "sweep --block": BLOCK,
    "sweep --dimensions": "--dimensions 2,4",
    "sweep --json": "--json",
    "sweep --out": "--out other",
    "sweep --spacings": "--spacings 0,8",
    "sweep --spacings-at": "--spacings-at 4",
    "sweep --split": "--split validation",
    "sweep --thresholds": "--thresholds 0:12",
    "train --accept-changes": "--accept-changes code",
    "train --block": BLOCK,
    "train --json": "--json",
    "train --out": "--out other",
    "train --print-config": "--print-config",
    "train --resume": "--resume run",
    "tsne --block": BLOCK,
    "tsne --json": "--json",
    "tsne --method": "--method tsne",
    "tsne --out": "--out other.png",
    "tsne --split": "--split validation",
}
EVALUATION = {
    "whitening": "references",
    "dimensions": "3",
    "whitening_images": "20",
    "spacing_m": "5",
    "thresholds_m": "3",
    "auc_limits_m": "7",
    "recall_at": "2",
    "recall_radius_m": "3",
    "order_limits_m": "6",
    "ndcg_at": "3",
    "gain_cutoff_m": "5",
    "gain_steepness_per_m": "0.3",
    "batch_size": "7",
    "baselines": "true",
}
SLOW = {"compare", "explain", "movie", "plugins", "report", "sweep", "train", "tsne"}
DATED = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?([+-]\d\d:\d\d|Z)?")
MEASURED = re.compile(rb'("(seconds|[a-z_]*_s|[a-z_]*per_second|date)": )[^,}\n]*')


def mark(command, *rest):
    marks = [pytest.mark.walk] if command in SLOW else []
    return pytest.param(command, *rest, marks=marks)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with a run, a map of its test references, and photographs."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        patch.chdir(folder)
        assert main(f"train {TINY} --evaluation.whitening train --out run".split()) == 0
        assert main("index run --out map".split()) == 0
        assert main(f"train {TINY} --loss exploding --out stopped".split()) != 0
        dataset = sys.modules["mlcore_synthetic"].SyntheticDataset()
        Path("photos").mkdir()
        for index in (425, 370):
            pixels = dataset.load_image(index).permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(f"photos/{index}.png")
    return folder


@pytest.fixture
def outcome_of(home, tmp_path, monkeypatch, capsys, synthetic_plugin):
    """Return what can be seen of a command that is run in a copy of the folder."""
    sizes: list[int] = []
    forward = EmbeddingModel.forward

    def counted(self, images, *rest):
        sizes.append(len(images))
        return forward(self, images, *rest)

    monkeypatch.setattr(EmbeddingModel, "forward", counted)
    seen: dict[str, object] = {}

    def outcome(line):
        if line not in seen:
            folder = Path(shutil.copytree(home, tmp_path / str(len(seen))))
            monkeypatch.chdir(folder)
            sizes.clear()
            capsys.readouterr()
            code = main(line.split())
            printed = capsys.readouterr()
            files = {
                str(path.relative_to(folder)): plain(path.read_bytes(), folder)
                for path in sorted(folder.rglob("*"))
                # TensorBoard's are named and filled by the time; metrics.jsonl has their values.
                if path.is_file() and "tfevents" not in path.name
            }
            texts = [plain(text.encode(), folder) for text in printed]
            seen[line] = (code, *texts, files, tuple(sizes))
        return seen[line]

    return outcome


def plain(content, folder):
    """Return what a file holds without the time, and the folder, that it was made in."""
    content = content.replace(str(folder).encode(), b"HERE")
    return MEASURED.sub(rb"\1_", DATED.sub(b"DATE", content))


def parser_of(command):
    return importlib.import_module(module_of(command)).make_parser()


def flags_of(command):
    names = [a.option_strings[-1] for a in parser_of(command).actions() if a.option_strings]
    return [name for name in names if name != "--help"]


def test_the_table_has_every_flag_of_every_command():
    commands = [*COMMANDS, "data_draft", "data_write"]
    assert {*BASES} == {*commands}
    assert {*OWN_FLAGS} == {f"{c} {flag}" for c in BASES for flag in flags_of(c)}
    assert {*EVALUATION} == {field.name for field in fields(EvaluationOptions)}


@pytest.mark.parametrize(
    ("command", "words"), [mark(name.split()[0], words) for name, words in OWN_FLAGS.items()]
)
def test_a_flag_has_an_effect(outcome_of, command, words):
    assert outcome_of(BASES[command]) != outcome_of(f"{BASES[command]} {words}")


def evaluation_options():
    for command in BASES:
        parser = parser_of(command)
        without = ("data", "data_draft", "data_write", "index")
        if parser.takes_run_options and command not in without:
            for option, value in EVALUATION.items():
                yield mark(command, f"--evaluation.{option} {value}")


@pytest.mark.parametrize(("command", "words"), list(evaluation_options()))
def test_an_option_of_the_evaluation_has_an_effect(outcome_of, command, words):
    assert outcome_of(BASES[command]) != outcome_of(f"{BASES[command]} {words}")


@pytest.mark.parametrize("command", [mark(command) for command in BASES])
def test_a_command_does_the_same_twice(outcome_of, command):
    """Else the comparisons above would see differences that no option made."""
    assert outcome_of(BASES[command]) == outcome_of(f"{BASES[command]} ")
