"""A model made to be what was saved after rounding."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from qanneal_opt.compress.kinds import Layer
from qanneal_opt.compress.layers import find_layers
from qanneal_opt.compress.packed import Reader, RoundedLayer, others
from qanneal_opt.compress.report import LayerRow, QuantizationReport
from qanneal_opt.compress.undo import Undo


def load_quantized(model: nn.Module, path: str | Path) -> QuantizationReport:
    """Give ``model`` the rounded weights, and all other tensors, of a file that ``report.save`` wrote.

    Weights are decoded exactly as :func:`qanneal_opt.quantize` wrote them: a model of the same dtype computes the same
    to the bit. The model is written only if all of the file fits, and is as before on any error.

    Args:
        model: of the same architecture; its own weights do not matter.
        path: of the file.

    Returns:
        The report that was saved, for this model.

    Raises:
        TypeError: if ``model`` is none.
        FileNotFoundError: if there is no file.
        ValueError: if it is not such a file, or does not fit the model.
        ImportError: if safetensors is not installed.

    >>> import tempfile, torch, qanneal_opt as qa
    >>> first, second = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
    >>> report = qa.quantize(first, [torch.randn(8, 4)], bits=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report.save(f"{folder}/model.safetensors")
    ...     _ = load_quantized(second, f"{folder}/model.safetensors")
    >>> torch.equal(first.weight, second.weight) and torch.equal(first.bias, second.bias)
    True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"Invalid model: {type(model).__name__}; a torch.nn.Module is needed")
    file = Reader(path)
    try:
        head = json.loads(file.head)
        rows = [LayerRow(**{**row, "shape": tuple(row["shape"])}) for row in head["rows"]]
        told = head["alone"], head["settings"], head["seconds"]
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(f"Invalid path: {path}; its report cannot be read ({error})") from error
    found, alone = find_layers(model)
    known = {layer.name: layer for layer in found}
    layers = {row.name: _fitting(known, alone, row) for row in rows}
    rest = others(model, layers)
    for key in rest.keys() ^ set(file.rest):
        place = "the model" if key in rest else "the file"
        raise ValueError(f"Invalid model: {key!r} is only in {place}; the model that was saved is needed")
    for key, value in rest.items():
        if file.shape(key) != tuple(value.shape):
            raise ValueError(f"Invalid model: {key!r} has shape {tuple(value.shape)}, {file.shape(key)} in the file")
    rounded: dict[str, RoundedLayer] = {}
    with Undo() as undo:
        for row in rows:
            layer = layers[row.name]
            saved = file.layer(row.name, row.bits, row.group_size, *layer.matrix().shape)
            rounded[row.name] = saved.to(layer.weight.device)
            undo.write(layer.weight, rounded[row.name].decode(layer))
        for key, value in rest.items():
            undo.write(value, file.tensor(key))
    return QuantizationReport(rows, *told, rounded, model)


def _fitting(known: dict[str, Layer], alone: dict[str, str], row: LayerRow) -> Layer:
    layer = known.get(row.name)
    if layer is None and row.name in alone:
        raise ValueError(f"Invalid model: layer {row.name!r} cannot be written, {alone[row.name]}")
    if layer is None:
        raise ValueError(f"Invalid model: it has no layer {row.name!r}; the model that was saved is needed")
    if tuple(layer.weight.shape) != row.shape:
        shape = tuple(layer.weight.shape)
        raise ValueError(f"Invalid model: the weight of {row.name!r} has shape {shape}, {row.shape} in the file")
    return layer
