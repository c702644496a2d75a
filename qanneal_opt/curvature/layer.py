"""What reaches the layers of a model: second moments of their inputs, and of the gradients at their outputs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from qanneal_opt.curvature.feed import Feed, Shown
from qanneal_opt.curvature.moments import Gram
from qanneal_opt.guards import evaluating
from qanneal_opt.terminal import progress


class Rows(Protocol):
    """How a layer turns its inputs and output gradients into rows: one a product with its weight matrix."""

    name: str
    modules: Sequence[nn.Module]  # several if they are tied
    key: Hashable  # layers with the same key make the same rows of the same input

    def input_rows(self, x: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        """Inputs as ``(G, N, C)``, G groups of C columns, in chunks of N."""

    def output_rows(self, dy: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        """Gradients at the outputs as ``(G, N, R)``."""


@dataclass(frozen=True, eq=False)
class Moments:
    r"""Means over the rows that a layer saw; G groups, of C inputs and R outputs each.

    Attributes:
        inputs: ``(G, C, C)`` float64: H, the mean of :math:`x x^\top`, not centred. Layers that see the same tensors
            share one.
        mean: ``(G, C)`` float64: the mean of x.
        outputs: ``(G, R, R)`` float64: the mean of :math:`\delta \delta^\top`, the gradients at the output; None if it
            was not asked for or no gradient came there.
        rows: how many x.
    """

    inputs: Tensor
    mean: Tensor
    outputs: Tensor | None
    rows: int


def layer_moments(
    feed: Feed, layers: Sequence[Rows], *, projections: int = 0, seed: int = 0, weights: dict[str, Tensor] | None = None
) -> dict[str, Moments]:
    r"""Run the model over its batches once, and average what the layers see.

    .. math:: H = \frac1N \sum_n x_n x_n^\top, \qquad G = \frac1{NP} \sum_{n,p} \delta_{np} \delta_{np}^\top, \qquad
              \delta_{np} = \partial (u_p \cdot f) / \partial y_n

    with f all floating-point outputs of the model as one vector, y the layer's output, and P random vectors u of
    independent signs for each batch, so that G is an unbiased estimate of the Gauss-Newton matrix of
    :math:`|f|^2 / 2`. Where ``feed`` has a mask, only tokens that count enter: of inputs, gradients and outputs whose
    leading dimensions are the mask's. The model runs in eval mode; modes, random numbers, gradients and
    ``requires_grad`` are left as they were, and weights need no gradient.

    Args:
        feed: model and batches.
        layers: how to read the layers of interest.
        projections: P; 0 for no G and no backward pass.
        seed: of the signs.
        weights: run the model with these in place of its own, by their names in the state dict.

    Returns:
        Moments by layer name, in the order of first calls; layers that were never called have none.

    Raises:
        ValueError: if there is no batch, or something not finite reaches a layer.
    """
    seen = _Seen(layers)
    generator = torch.Generator().manual_seed(seed)
    empty = True
    with evaluating(feed.model), _hooks(layers, seen, gradients=projections > 0), _gradients(feed.model, projections):
        for shown in progress(feed, "statistics", total=_length(feed)):
            empty = False
            seen.mask = shown.mask
            outputs = feed.run(_detached(shown), weights)
            if projections:
                _pull(outputs, seen, projections, generator)
            seen.forget()
    if empty:
        raise ValueError("Invalid data: no batch; at least one is needed")
    return seen.moments()


def tokens(values: Tensor, mask: Tensor | None) -> Tensor:
    """The rows ``(N, C)`` of ``(..., C)`` that count; all, if the leading dimensions are not those of the mask."""
    rows = values.reshape(-1, values.shape[-1])
    flat = values.ndim == 2 and mask is not None and len(values) == mask.numel()
    if mask is None or not (flat or values.shape[:-1] == mask.shape) or bool(mask.all()):
        return rows
    return rows[mask.flatten()]


def first_argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The input of a layer, however it was given."""
    value: Tensor = args[0] if args else next(iter(kwargs.values()))
    return value.detach()


class _Seen:
    """The sums of all layers, and of the batch under way what they need.

    Layers begin with one Gram for all that have the same key. A layer that gets the same tensor as the one before it,
    and had the same so far, takes over that one's new sums instead of adding the tensor again.
    """

    def __init__(self, layers: Sequence[Rows]) -> None:
        self.layers = layers
        self.mask: Tensor | None = None
        self.probes: list[Tensor] = []
        self.outputs = {layer.name: Gram() for layer in layers}
        blank: dict[Hashable, Gram] = {}
        self._inputs = {layer.name: blank.setdefault(layer.key, Gram()) for layer in layers}
        self._order: dict[str, None] = {}
        self._last: tuple[Tensor, int, Gram, Gram] | None = None  # a tensor, its version, sums before it and after it

    def add(self, layer: Rows, x: Tensor) -> None:
        """Take an input."""
        self._order.setdefault(layer.name)
        old, version = self._inputs[layer.name], 0 if x.is_inference() else x._version
        if self._last is not None:
            tensor, seen, before, after = self._last
            if before is old and seen == version and _same(tensor, x):
                self._inputs[layer.name] = after
                return
        alone = sum(gram is old for gram in self._inputs.values()) == 1
        new = old if alone else old.copy()
        for rows in layer.input_rows(x, self.mask):
            new.add(rows)
        self._inputs[layer.name] = new
        self._last = None if alone else (x, version, old, new)

    def add_gradient(self, layer: Rows, dy: Tensor) -> None:
        """Take the gradient at an output."""
        for rows in layer.output_rows(dy, self.mask):
            self.outputs[layer.name].add(rows)

    def forget(self) -> None:
        """Let go of the batch's tensors."""
        self.probes.clear()
        self._last = None

    def moments(self) -> dict[str, Moments]:
        """The means, once all batches were seen."""
        made: dict[Gram, tuple[Tensor, Tensor]] = {}
        found = {}
        for name in self._order:
            gram, outputs = self._inputs[name], self.outputs.pop(name)
            if not gram.rows:
                continue
            if gram not in made:
                made[gram] = gram.moment(), gram.mean()
            moment, mean = made[gram]
            output = outputs.moment() if outputs.rows else None
            if not bool(moment.isfinite().all()):
                raise ValueError(f"Invalid data: NaN or infinity reaches layer {name!r}; finite activations are needed")
            if output is not None and not bool(output.isfinite().all()):
                raise ValueError(f"Invalid data: the gradient at the output of layer {name!r} is not finite")
            found[name] = Moments(moment, mean, output, gram.rows)
        return found


@contextlib.contextmanager
def _hooks(layers: Sequence[Rows], seen: _Seen, *, gradients: bool) -> Iterator[None]:
    handles = []

    def before(layer: Rows) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            with torch.no_grad():
                seen.add(layer, first_argument(args, kwargs))

        return hook

    def after(layer: Rows) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            if not output.requires_grad:
                probe = output.new_zeros(()).requires_grad_()
                seen.probes.append(probe)
                output = output + probe
            output.register_hook(lambda dy: seen.add_gradient(layer, dy.detach()))
            return output

        return hook

    try:
        for layer in layers:
            for module in layer.modules:
                handles.append(module.register_forward_pre_hook(before(layer), with_kwargs=True))
                if gradients:
                    handles.append(module.register_forward_hook(after(layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _gradients(model: nn.Module, projections: int) -> Iterator[None]:
    """With projections, differentiate by the outputs of layers alone: no weight asks for its gradient."""
    needing = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in needing:
            p.requires_grad_(False)
        with torch.set_grad_enabled(projections > 0):
            yield
    finally:
        for p in needing:
            p.requires_grad_(True)


def _pull(outputs: Any, seen: _Seen, projections: int, generator: torch.Generator) -> None:
    """Send random signs at the outputs back through the model."""
    found = [y for y in _tensors(outputs) if y.requires_grad and y.numel()]
    if not found:
        raise ValueError(
            "Invalid objective: 'kronecker'; no gradient comes from the model's outputs, objective='input' needs none"
        )
    for k in range(projections):
        signs = [_signs(y, seen.mask, generator) for y in found]
        more = k + 1 < projections
        torch.autograd.grad(found, seen.probes, signs, retain_graph=more, allow_unused=True)


def _signs(output: Tensor, mask: Tensor | None, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, output.shape, generator=generator, dtype=torch.int8).to(output.device)
    signs = (2 * signs - 1).to(output.dtype)
    if mask is not None and output.shape[: mask.ndim] == mask.shape:
        signs *= mask.reshape(*mask.shape, *[1] * (output.ndim - mask.ndim)).to(signs.dtype)
    return signs


def _tensors(value: Any) -> list[Tensor]:
    """Floating-point tensors in nested mappings, tuples and dataclasses."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (tuple, list)):
        parts = list(value)
    elif dataclasses.is_dataclass(value):
        parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        return []
    return [tensor for part in parts for tensor in _tensors(part)]


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether both are the same numbers in memory; the version says whether they were written in between."""
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride() and a.dtype == b.dtype


def _detached(shown: Shown) -> Shown:
    """Inputs that are no part of a graph of the caller's."""
    return Shown(_map(shown.inputs), shown.mask)


def _map(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _map(part) for key, part in value.items()}
    if isinstance(value, tuple):
        parts = [_map(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value.detach() if isinstance(value, Tensor) else value


def _length(feed: Feed) -> int | None:
    try:
        return len(feed)
    except TypeError:
        return None
