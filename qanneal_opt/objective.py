"""The loss that annealing judges moves by."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from qanneal_opt.guards import evaluating, repeatable
from qanneal_opt.losses import Loss, smoothed

Pair = tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples on the model's device; ``size`` is their number, or the sum of their weights."""

    inputs: Any
    targets: Any
    weights: Tensor | None  # (N,)
    size: float


class Objective:
    r"""The mean loss over a fixed set of samples, as a function of a model's present weights.

    .. math:: f(w) = \frac{\sum_s c_s\, \ell(\mathrm{model}_w(x_s), y_s)}{\sum_s c_s}

    with sample weights :math:`c_s` (1 unless given). Calling it leaves no trace: no gradient, and the
    global RNG, train/eval mode, buffers and ``.grad`` as they were. The model is judged in eval mode.

    Args:
        model: any module; its weights are read at each call.
        loss: ``loss(outputs, targets) -> scalar``, a mean over the samples it is given.
        data: an ``(inputs, targets)`` pair, a ``DataLoader`` of such pairs, or a callable that returns either.
            ``inputs`` is a tensor, a tuple (positional arguments) or a mapping (keyword arguments).
            A callable is asked once for each call, or once for each annealing step; a ``DataLoader`` is read
            at each pass from one seed, so that a pass always sees the same samples. Tensors are fastest.
        batch_size: samples a forward pass, for pairs; all at once if None.
        weights: ``(N,)`` non-negative weight of each sample, for pairs.

    Raises:
        TypeError: if ``model``, ``loss`` or ``data`` is of no use as such.
        ValueError: on lengths that disagree, no data, a bad batch size or bad weights.

    >>> model = torch.nn.Linear(2, 1)
    >>> _ = torch.nn.init.constant_(model.weight, 1.0), torch.nn.init.zeros_(model.bias)
    >>> inputs, targets = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[3.0], [8.0]])
    >>> Objective(model, torch.nn.functional.mse_loss, (inputs, targets))()
    tensor(0.5000)
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: Pair | DataLoader[Any] | Callable[[], Any],
        *,
        batch_size: int | None = None,
        weights: Tensor | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"Invalid model: {type(model).__name__}; a torch.nn.Module is needed")
        if not callable(loss):
            raise TypeError(f"Invalid loss: {loss!r}; a callable of (outputs, targets) is needed")
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(f"Invalid batch_size: {batch_size}; a positive int or None is needed")
        if weights is not None:
            weights = torch.as_tensor(weights)
            if weights.ndim != 1 or not bool((weights >= 0).all()) or not 0 < float(weights.sum()) < torch.inf:
                raise ValueError(
                    f"Invalid weights: shape {tuple(weights.shape)}; one finite non-negative number a sample is needed"
                )
        self.model = model
        self.loss = loss
        self.data = data
        self.batch_size = batch_size
        self.weights = weights
        self._fixed: Pair | DataLoader[Any] | None = None  # while frozen: what the data are
        if isinstance(data, DataLoader) or not callable(data):
            self._check(data)

    def __call__(self) -> Tensor:
        """Give the mean loss at the model's present weights, a 0-d tensor without a graph."""
        mean, total = torch.zeros(()), 0.0
        with self.frozen(), torch.no_grad():
            for batch in self.batches():
                total += batch.size
                loss = self.batch_loss(self.forward(batch), batch)
                mean = torch.lerp(mean.to(loss), loss, batch.size / total)
        return mean

    def gradient(self, params: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Give the value and its gradient with respect to ``params``; ``.grad`` is left alone.

        Returns:
            The mean loss, 0-d, and one tensor of each parameter's shape and dtype (zeros where it has no part).
        """
        mean, total = torch.zeros(()), 0.0
        grads: list[Tensor] = []
        with self.frozen(), torch.enable_grad():
            for batch in self.batches():
                total += batch.size
                loss = self.batch_loss(self.forward(batch), batch)
                mean = torch.lerp(mean.to(loss), loss.detach(), batch.size / total)
                parts = torch.autograd.grad(loss, list(params), materialize_grads=True, allow_unused=True)
                if grads:
                    torch._foreach_lerp_(grads, parts, batch.size / total)
                else:
                    grads = list(parts)
        return mean, grads

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold the data and the guards for several evaluations; may be nested."""
        if self._fixed is not None:
            yield
            return
        data = self.data
        if callable(data) and not isinstance(data, DataLoader):
            data = data()
            self._check(data)
        self._fixed = data
        try:
            with evaluating(self.model):
                yield
        finally:
            self._fixed = None

    def batches(self) -> Iterator[Batch]:
        """Go through the samples once, on the model's device: the same stream at each pass while frozen."""
        data = self.data if self._fixed is None else self._fixed
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        if isinstance(data, DataLoader):
            generators = [data.generator, getattr(data.sampler, "generator", None)]
            with repeatable(*dict.fromkeys(generators)):
                for inputs, targets in data:
                    yield self._batch(inputs, targets, None, device)
            return
        inputs, targets = cast(Pair, data)
        count = _length(targets)
        size = self.batch_size or count
        for at in range(0, count, size):
            part = slice(at, at + size) if size < count else None
            weights = None if self.weights is None else _to(self.weights, device, part)
            yield self._batch(_to(inputs, device, part), _to(targets, device, part), weights, device)

    def forward(self, batch: Batch) -> Any:
        """Run the model on a batch."""
        if isinstance(batch.inputs, Mapping):
            return self.model(**batch.inputs)
        if isinstance(batch.inputs, (tuple, list)):
            return self.model(*batch.inputs)
        return self.model(batch.inputs)

    def batch_loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Give the (weighted) mean loss of a batch's outputs, 0-d."""
        if batch.weights is None:
            loss = self.loss(outputs, batch.targets)
        else:
            loss = (self._sample_losses(outputs, batch.targets) * batch.weights).sum() / batch.size
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"Invalid loss: it returned {shape}; a scalar (0-d) tensor is needed")
        return loss

    def smoothed(self, smoothing: float) -> Objective:
        """Give the same objective with label smoothing; needs a plain cross-entropy as the loss."""
        if smoothing == 0.0:
            return self
        other = Objective(
            self.model,
            smoothed(self.loss, smoothing),
            self.data,
            batch_size=self.batch_size,
            weights=self.weights,
        )
        other._fixed = self._fixed
        return other

    def _check(self, data: Any) -> None:
        if isinstance(data, DataLoader):
            if self.weights is not None or self.batch_size is not None:
                name = "weights" if self.weights is not None else "batch_size"
                raise ValueError(f"Invalid {name}: a DataLoader has its own; give an (inputs, targets) pair for it")
            return
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise TypeError(
                f"Invalid data: {type(data).__name__}; an (inputs, targets) pair, a DataLoader or a callable is needed"
            )
        lengths = {_length(part) for part in _leaves(data)}
        if self.weights is not None:
            lengths.add(len(self.weights))
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"Invalid data: lengths {sorted(lengths)}; equal and positive ones are needed")

    def _batch(self, inputs: Any, targets: Any, weights: Tensor | None, device: torch.device) -> Batch:
        size = float(_length(targets)) if weights is None else float(weights.sum())
        return Batch(_to(inputs, device), _to(targets, device), weights, size)

    def _sample_losses(self, outputs: Any, targets: Any) -> Tensor:
        """Give each sample's own loss, ``(N,)``: the loss of batches of one."""

        def one(output: Any, target: Any) -> Tensor:
            single = _map(lambda part: part.unsqueeze(0), (output, target))
            return self.loss(*single)

        losses: Tensor = torch.func.vmap(one)(outputs, targets)  # (N,)
        return losses


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value]


def _map(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _map(function, part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_map(function, part) for part in value)
    return function(value) if isinstance(value, Tensor) else value


def _length(value: Any) -> int:
    leaf = _leaves(value)[0]
    if not isinstance(leaf, Tensor) or leaf.ndim == 0:
        raise TypeError(f"Invalid data: {type(leaf).__name__}; tensors with a sample dimension are needed")
    return len(leaf)


def _to(value: Any, device: torch.device, part: slice | None = None) -> Any:
    return _map(lambda leaf: (leaf if part is None else leaf[part]).to(device, non_blocking=True), value)
