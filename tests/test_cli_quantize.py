"""The command `quantize`: checkpoint, factory and data in, a packed file out, one clear line on bad input."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

import qanneal_opt as qa
from qanneal_opt.cli import main

MODULE = """
import torch

def make():
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

def batches():
    return [(x,) for x in torch.randn(60, 6, generator=torch.Generator().manual_seed(0)).split(20)]

def number():
    return 3

def broken():
    raise ValueError("no data today")

def failing():
    return {}["no such key"]

def late():
    yield torch.zeros(4, 6)
    raise IndexError("no more data")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a module `saved_net`, checkpoints of its model and files of inputs."""
    import safetensors.torch

    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved_net.py").write_text(MODULE)
    inputs = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).state_dict()
    torch.save(state, "net.pt")
    torch.save({"state_dict": state, "epoch": 3}, "nested.pt")
    safetensors.torch.save_file(state, "net.safetensors")
    safetensors.torch.save_file({"input": inputs}, "inputs.safetensors")
    np.savez("inputs.npz", input=inputs.numpy())
    torch.save(inputs, "inputs.pt")
    torch.save(list(inputs.split(20)), "batches.pt")
    (tmp_path / "no_module.py").write_text("1 / 0")
    np.savez("uneven.npz", input=inputs.numpy(), other=np.zeros(3))
    yield tmp_path
    sys.modules.pop("saved_net", None)


def run(*argv):
    return main(["quantize", *argv, "--sweeps", "5", "--bits", "3"])


@pytest.mark.parametrize("checkpoint", ["net.pt", "nested.pt", "net.safetensors"])
@pytest.mark.parametrize("data", ["inputs.npz", "inputs.pt", "inputs.safetensors", "batches.pt", "saved_net:batches"])
def test_every_kind_of_file_gives_the_same(folder, capsys, checkpoint, data):
    out = folder / "out.safetensors"
    argv = [checkpoint, "--factory", "saved_net:make", "--data", data, "--batch-size", "20", "--out", str(out)]
    assert run(*argv) == 0
    text = capsys.readouterr().out
    assert text.startswith("layer") and "out.safetensors" in text and str(folder) not in sys.path
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    report = qa.load_quantized(model, out)
    expected = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    expected.load_state_dict(torch.load("net.pt", weights_only=True))
    own = qa.quantize(expected, torch.load("inputs.pt", weights_only=True).split(20), 3, sweeps=5)
    # Files give tensors in memory that is aligned differently, which products in float32 may notice.
    assert [row.final for row in report.rows] == pytest.approx([row.final for row in own.rows], rel=1e-4)
    assert all(torch.allclose(p, q, atol=1e-4) for p, q in zip(model.parameters(), expected.parameters()))


def test_json_plot_and_the_default_name(folder, capsys):
    argv = ["net.pt", "--factory", "saved_net:make", "--data", "inputs.npz", "--json", "--plot", "layers.png"]
    assert run(*argv, "--skip", "0", "--method", "gptq", "--sequential") == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in report["rows"]] == ["2"] and report["alone"] == {"0": "skipped"}
    assert (folder / "net-3bit.safetensors").exists() and (folder / "layers.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"checkpoint": "none.pt"}, "checkpoint: none.pt"),
        ({"checkpoint": "saved_net.py"}, "checkpoint: saved_net.py"),
        ({"checkpoint": "inputs.pt"}, "checkpoint: inputs.pt"),
        ({"checkpoint": "inputs.safetensors"}, "checkpoint: inputs.safetensors"),
        ({"--factory": "saved_net"}, "--factory: saved_net"),
        ({"--factory": "no_such_module:make"}, "--factory: no_such_module:make"),
        ({"--factory": "saved_net:none"}, "--factory: saved_net:none"),
        ({"--factory": "saved_net:number"}, "--factory: saved_net:number"),
        ({"--factory": "saved_net:torch.pi"}, "--factory: saved_net:torch.pi"),
        ({"--data": "none.npz"}, "--data: none.npz"),
        ({"--data": "uneven.npz"}, "--data: uneven.npz"),
        ({"--data": "saved_net:number"}, "--data: saved_net:number"),
        ({"--data": "saved_net:broken"}, "no data today"),
        ({"--data": "saved_net:failing"}, "KeyError: 'no such key'"),
        ({"--data": "saved_net:late"}, "no more data"),
        ({"--factory": "saved_net:broken"}, "--factory: saved_net:broken; it fails (no data today)"),
        ({"--factory": "saved_net:failing"}, "--factory: saved_net:failing; it fails (KeyError: 'no such key')"),
        ({"--factory": "no_module:make"}, "--factory: no_module:make; division by zero"),
        ({"--bits": "x"}, "--bits: invalid int value"),
        ({"--method": "none"}, "--method: invalid choice"),
        ({"--out": "."}, "path: .; it is a folder"),
        ({"--data": "net.pt"}, "--data: net.pt"),
        ({"--batch-size": "0"}, "--batch-size: 0"),
        ({"--group-size": "0"}, "group_size: 0"),
        ({"--skip": "nothing.*"}, "skip: 'nothing.*'"),
        ({"--out": "nowhere/model.safetensors"}, "nowhere"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(folder, capsys, changes, named):
    argv = {"checkpoint": "net.pt", "--factory": "saved_net:make", "--data": "inputs.npz", **changes}
    flat = [argv.pop("checkpoint"), *(part for pair in argv.items() for part in pair)]
    assert run(*flat) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and named in lines[0]
    assert not list(folder.glob("*bit.safetensors"))
