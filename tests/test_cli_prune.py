"""The command prune: what it writes loads again, with as many weights as asked for; bad input in one line."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qanneal_opt.cli import main
from tests.toys import INPUTS, TARGETS, net

FACTORY = ["--factory", "tests.toys:net"]


@pytest.fixture(params=["safetensors", "pt"])
def saved(request, tmp_path):
    checkpoint, data = tmp_path / f"model.{request.param}", tmp_path / "data.npz"
    state = net(3).state_dict()
    save_file(state, checkpoint) if request.param == "safetensors" else torch.save(state, checkpoint)
    np.savez(data, inputs=INPUTS.numpy(), targets=TARGETS.numpy())
    return checkpoint, data


def load(path):
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)


def test_a_checkpoint_is_pruned(saved, capsys):
    checkpoint, data = saved
    assert main(["prune", str(checkpoint), *FACTORY, "--data", str(data), "--density", "0.4"]) == 0
    out = checkpoint.with_name(f"model-pruned{checkpoint.suffix}")
    assert str(out) in capsys.readouterr().out
    state = load(out)
    net().load_state_dict(state)
    assert sum(int(state[name].count_nonzero()) for name in ("0.weight", "2.weight")) == 18
    assert torch.equal(state["0.bias"], net(3)[0].bias)
    other = checkpoint.with_name(f"other{checkpoint.suffix}")
    options = ["--method", "magnitude", "--scope", "layer", "--loss", "tests.toys:own_loss", "--out", str(other)]
    assert main(["prune", str(checkpoint), *FACTORY, "--data", "tests.test_cli_prune:pair", "--json", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["kept"] for row in report["rows"]] == [6, 3] and report["settings"]["method"] == "magnitude"
    assert int(load(other)["2.weight"].count_nonzero()) == 3


def out_of_range(outputs, targets):
    raise IndexError("no such class")


def pair():
    return INPUTS, TARGETS


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--density", "2"], "Invalid density: 2.0"),
        (["--pattern", "2:4", "--density", "0.5"], "Invalid model: no layer to prune"),
        (["--targets", "labels"], "inputs and 'labels' are needed, it has inputs, targets"),
        (["--batch-size", "0"], "Invalid --batch-size: 0"),
        (["--loss", "hinge"], "Invalid --loss: hinge; a name such as"),
        (["--data", "nowhere.npz"], "Invalid --data: nowhere.npz"),
        (["--data", "tests.test_cli_prune:nothing"], "Invalid --data: tests.test_cli_prune:nothing"),
        (["--loss", "mse_loss"], "the model fails on it"),
        (["--loss", "tests.test_cli_prune:out_of_range"], "the model fails on it (IndexError: no such class)"),
        (["--stages", "few"], "--stages: invalid int value"),
        (["--out", "/nowhere/at/all.pt"], "Invalid path: /nowhere/at/all.pt; there is no such folder"),
        (["--sampler", "nobody"], "Invalid sampler: 'nobody'"),
    ],
)
def test_bad_input_takes_one_line(options, message, tmp_path, capsys):
    checkpoint, data = tmp_path / "model.pt", tmp_path / "data.npz"
    torch.save(net(3).state_dict(), checkpoint)
    np.savez(data, inputs=INPUTS.numpy(), targets=TARGETS.numpy())
    assert main(["prune", str(checkpoint), *FACTORY, "--data", str(data), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not checkpoint.with_name("model-pruned.pt").exists()
