"""The loss that annealing judges moves by."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.data import DataLoader

from qanneal_opt.batches import Batch, Pair, call, check, length, read
from qanneal_opt.guards import RandomState, evaluating
from qanneal_opt.losses import Loss, smoothed


class Objective:
    r"""The mean loss over a fixed set of samples, as a function of a model's present weights.

    .. math:: f(w) = \frac{\sum_s c_s\, \ell(\mathrm{model}_w(x_s), y_s)}{\sum_s c_s}

    with sample weights :math:`c_s` (1 unless given). Calling it leaves no trace: no gradient, and the
    global RNG, train/eval mode, buffers and ``.grad`` as they were. The model is judged in eval mode.

    Args:
        model: any module; its weights are read at each call.
        loss: ``loss(outputs, targets) -> scalar``, a mean over the samples it is given.
        data: an ``(inputs, targets)`` pair, a ``DataLoader`` of pairs, or a callable that returns either.
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
        whole = isinstance(batch_size, int) and not isinstance(batch_size, bool) and batch_size >= 1
        if batch_size is not None and not whole:
            raise ValueError(f"Invalid batch_size: {batch_size}; a positive int or None is needed")
        if weights is not None:
            weights = torch.as_tensor(weights).detach()
            fit = weights.ndim == 1 and bool((weights >= 0).all())
            if not (fit and 0 < float(weights.sum()) < torch.inf):
                raise ValueError(
                    f"Invalid weights: {weights}; a finite non-negative number a sample is needed, not all 0"
                )
        self.model = model
        self.loss = loss
        self.data = data
        self.batch_size = batch_size
        self.weights = weights
        self._held: list[_Held] = []  # one while frozen; shared with copies
        if isinstance(data, DataLoader) or not callable(data):
            check(data, self.batch_size, self.weights)

    def __call__(self) -> Tensor:
        """Give the mean loss at the model's present weights, a 0-d tensor without a graph."""
        mean, total = torch.zeros(()), 0.0
        with self.frozen(), torch.no_grad():
            for batch in self.batches():
                total += batch.size
                loss = self.batch_loss(self.forward(batch), batch).detach()
                mean = torch.lerp(mean.to(loss), loss, batch.size / total)
        return mean

    def gradient(self, params: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Give the value and its gradient with respect to ``params``; ``.grad`` is left alone.

        Returns:
            The mean loss, 0-d, and one tensor of each parameter's shape, dtype and memory layout (zeros where
            it has no part).
        """
        mean, total = torch.zeros(()), 0.0
        grads: list[Tensor] = []
        with self.frozen(), torch.enable_grad():
            for batch in self.batches():
                total += batch.size
                loss = self.batch_loss(self.forward(batch), batch)
                parts = _gradients(loss, params)
                mean = torch.lerp(mean.to(loss), loss.detach(), batch.size / total)
                if not grads:
                    grads = parts
                    continue
                # Not in place: autograd may have given two parameters one tensor.
                for k, part in enumerate(parts):
                    grads[k] = torch.lerp(grads[k], part, batch.size / total)
        return mean, grads

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold the data and the guards for several evaluations; may be nested."""
        if self._held:
            yield
            return
        with evaluating(self.model) as noise:
            self._held.append(_Held(self._data(), noise))
            try:
                yield
            finally:
                self._held.clear()

    def batches(self) -> Iterator[Batch]:
        """Go through the samples once, on the model's device: while frozen, the same stream at each pass.

        The global RNG of torch is put where it was when freezing began, so that a model that draws noise
        even in eval mode draws the same at each pass. Batches of no weight are left out.
        """
        data = self._held[0].data if self._held else self._data()
        if self._held:
            self._held[0].noise.rewind()
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        yield from read(data, device, self.batch_size, self.weights)

    def forward(self, batch: Batch) -> Any:
        """Run the model on a batch."""
        return call(self.model, batch.inputs)

    def batch_loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Give the (weighted) mean loss of a batch's outputs, 0-d."""
        if batch.weights is None:
            return _scalar(self.loss(outputs, batch.targets))
        return (self.sample_losses(outputs, batch.targets) * batch.weights).sum() / batch.size

    def sample_losses(self, outputs: Any, targets: Any) -> Tensor:
        """Give each sample's own loss, ``(N,)``: the loss of batches of one."""
        leaves, structure = tree_flatten((outputs, targets))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        lengths = {length(leaf) for leaf in tensors}
        if len(lengths) != 1:
            raise ValueError(f"Invalid outputs: lengths {sorted(lengths)}; weights need one a sample, as targets have")

        def one(*parts: Tensor) -> Tensor:
            singles = (part.unsqueeze(0) for part in parts)
            filled = [next(singles) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            return _scalar(self.loss(*tree_unflatten(filled, structure)))

        try:
            losses: Tensor = torch.func.vmap(one)(*tensors)  # (N,)
        except RuntimeError:  # a loss that vmap cannot take, such as one whose control flow reads values
            losses = torch.stack([one(*parts) for parts in zip(*tensors, strict=True)])
        return losses

    def smoothed(self, smoothing: float) -> Objective:
        """Give the same objective with label smoothing; needs a plain cross-entropy as the loss."""
        if smoothing == 0.0:
            return self
        other = copy.copy(self)
        other.loss = smoothed(self.loss, smoothing)
        return other

    def _data(self) -> Pair | DataLoader[Any]:
        """The pair or loader that is to be read now."""
        data = self.data
        if callable(data) and not isinstance(data, DataLoader):
            data = data()
            check(data, self.batch_size, self.weights)
        return cast("Pair | DataLoader[Any]", data)


@dataclass(frozen=True, eq=False)
class _Held:
    """What an objective holds while it is frozen."""

    data: Pair | DataLoader[Any]
    noise: RandomState


def _scalar(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor):
        raise TypeError(f"Invalid loss: it returned {loss!r}; a 0-d tensor is needed")
    if loss.ndim != 0 or not loss.is_floating_point():
        given = f"{loss.dtype} of shape {tuple(loss.shape)}"
        raise ValueError(f"Invalid loss: it returned {given}; a 0-d floating tensor is needed")
    return loss


def _gradients(loss: Tensor, params: Sequence[Tensor]) -> list[Tensor]:
    """Differentiate ``loss``; gradients lie in memory as their parameters do, as fused kernels assume."""
    if not (loss.requires_grad and params):
        return [torch.zeros_like(p) for p in params]
    parts = torch.autograd.grad(loss, list(params), materialize_grads=True, allow_unused=True)
    pairs = zip(parts, params, strict=True)
    return [part if part.stride() == p.stride() else torch.empty_like(p).copy_(part) for part, p in pairs]
