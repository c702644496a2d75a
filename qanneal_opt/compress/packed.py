"""A rounded model in one safetensors file: codes of 1 to 8 bits without gaps, their grids, and all other tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qanneal_opt.compress.grid import Grid
from qanneal_opt.compress.kinds import Layer

FORMAT = "1"
_KEY = "qanneal_opt"  # of the metadata: the format, and below it the report; one key, as several come in any order
_CHUNK = 2**24  # single bits unpacked at a time
_EXTRA = "safetensors is not installed: pip install 'qanneal-opt[compress]'"


@dataclass(frozen=True, eq=False)
class RoundedLayer:
    """Codes ``(R, C)`` uint8 of a layer's weights as a matrix, and the grid that decodes them."""

    codes: Tensor
    grid: Grid

    def decode(self, layer: Layer) -> Tensor:
        """The weights, of the layer's shape and dtype."""
        return layer.assembled(self.grid.decode(self.codes)).to(layer.weight.dtype)

    def to(self, device: torch.device) -> RoundedLayer:
        """The same on another device."""
        grid = Grid(self.grid.bits, self.grid.scale.to(device), self.grid.zero.to(device), self.grid.group_size)
        return RoundedLayer(self.codes.to(device), grid)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes ``(R, C)`` uint8 below 2**bits as ``(R, ceil(C * bits / 8))`` uint8, lowest bits first; on the CPU.

    >>> pack(torch.tensor([[1, 2, 7]], dtype=torch.uint8), 3)
    tensor([[209,   1]], dtype=torch.uint8)
    """
    rows, columns = codes.shape
    source = codes.cpu().numpy()
    packed = np.empty((rows, -(-columns * bits // 8)), np.uint8)
    step = max(1, _CHUNK // max(1, columns * bits))
    for at in range(0, rows, step):
        part = source[at : at + step, :, None] >> np.arange(bits, dtype=np.uint8) & np.uint8(1)
        packed[at : at + step] = np.packbits(part.reshape(len(part), -1), axis=1, bitorder="little")
    return torch.from_numpy(packed)


def unpack(packed: Tensor, bits: int, columns: int) -> Tensor:
    """The codes ``(R, columns)`` uint8 that :func:`pack` packed; on the CPU.

    >>> unpack(pack(torch.tensor([[1, 2, 7]], dtype=torch.uint8), 3), 3, 3)
    tensor([[1, 2, 7]], dtype=torch.uint8)
    """
    source = packed.numpy()
    codes = np.empty((len(source), columns), np.uint8)
    step = max(1, _CHUNK // max(1, columns * bits))
    for at in range(0, len(source), step):
        part = np.unpackbits(source[at : at + step], axis=1, count=columns * bits, bitorder="little")
        weights = (1 << np.arange(bits)).astype(np.uint8)
        codes[at : at + step] = (part.reshape(len(part), columns, bits) * weights).sum(2, dtype=np.uint8)
    return torch.from_numpy(codes)


def write(
    path: str | Path, model: nn.Module, layers: Mapping[str, Layer], rounded: Mapping[str, RoundedLayer], head: str
) -> None:
    """Write the file; it replaces an older one only once it is complete.

    Raises:
        ValueError: if a layer's weights are no longer those of its codes.
        ImportError: if safetensors is not installed.
    """
    safetensors = _safetensors()
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        mine = rounded[name]
        if not torch.equal(mine.decode(layer), layer.weight.detach()):
            raise ValueError(f"Invalid model: the weights of layer {name!r} were changed after rounding")
        whole = bool(((mine.grid.zero == mine.grid.zero.round()) & (mine.grid.zero.abs() <= 127)).all())
        tensors[f"codes/{name}"] = pack(mine.codes, mine.grid.bits)
        tensors[f"scale/{name}"] = mine.grid.scale.cpu().contiguous()
        tensors[f"zero/{name}"] = mine.grid.zero.to(torch.int8 if whole else torch.float32).cpu().contiguous()
    rest = {f"rest/{key}": value.cpu().clone().contiguous() for key, value in others(model, layers).items()}
    target = Path(path)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        scratch.touch()
        mode = scratch.stat().st_mode  # safetensors makes files that only their owner can read
        safetensors.torch.save_file(tensors | rest, scratch, metadata={_KEY: f"{FORMAT}\n{head}"})
        scratch.chmod(mode)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


class Reader:
    """An open file of :func:`write`: ``head``, the names of other tensors, and tensors when they are asked for.

    Raises:
        ValueError: if the file is not one that :func:`write` wrote.
        ImportError: if safetensors is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        safetensors = _safetensors()
        if not Path(path).is_file():
            raise FileNotFoundError(f"Invalid path: {path}; there is no such file")
        try:
            self._file: Any = safetensors.safe_open(path, framework="pt")
        except safetensors.SafetensorError as error:
            raise ValueError(f"Invalid path: {path}; it is no safetensors file ({error})") from error
        kind, _, self.head = (self._file.metadata() or {}).get(_KEY, "").partition("\n")
        if kind != FORMAT:
            raise ValueError(f"Invalid path: {path}; a file that report.save wrote is needed")
        self._path = path
        self.rest = [key.removeprefix("rest/") for key in self._file.keys() if key.startswith("rest/")]  # noqa: SIM118

    def layer(self, name: str, bits: int, group_size: int, rows: int, columns: int) -> RoundedLayer:
        """Codes and grid of a layer, on the CPU."""
        groups = -(-columns // group_size)
        codes = self._part("codes", name, (rows, -(-columns * bits // 8)), torch.uint8)
        scale = self._part("scale", name, (rows, groups), torch.float32)
        zero = self._part("zero", name, (rows, groups), torch.float32, torch.int8)
        return RoundedLayer(unpack(codes, bits, columns), Grid(bits, scale, zero.float(), group_size))

    def _part(self, part: str, name: str, shape: tuple[int, int], *dtypes: torch.dtype) -> Tensor:
        """A tensor of a layer, if it is there and of the form that the layer asks for."""
        key = f"{part}/{name}"
        value: Tensor | None = self._file.get_tensor(key) if key in self._file.keys() else None  # noqa: SIM118
        if value is None or value.shape != shape or value.dtype not in dtypes:
            given = "missing" if value is None else f"{value.dtype} of shape {tuple(value.shape)}"
            raise ValueError(f"Invalid path: {self._path}; {key!r} is {given}, {dtypes[0]} of shape {shape} is needed")
        return value

    def tensor(self, key: str) -> Tensor:
        """One of the other tensors."""
        value: Tensor = self._file.get_tensor(f"rest/{key}")
        return value

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one of the other tensors."""
        return tuple(self._file.get_slice(f"rest/{key}").get_shape())


def others(model: nn.Module, layers: Mapping[str, Layer]) -> dict[str, Tensor]:
    """The model's tensors apart from rounded weights, by their names in the state dict; what is shared, once."""
    seen = {_place(layer.weight.detach()) for layer in layers.values()}
    found: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if isinstance(value, Tensor) and (not value.numel() or _place(value) not in seen):
            seen.add(_place(value))
            found[key] = value
    return found


def _place(value: Tensor) -> tuple[Any, ...]:
    return value.data_ptr(), value.shape, value.stride(), value.dtype


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return safetensors
