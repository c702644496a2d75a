"""The hinge by hand, what is recognised as which loss, and smoothing."""

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from qanneal_opt.losses import Hinge, LossSpec, describe, hinge, smoothed

finite = st.floats(-10, 10)


@given(st.lists(st.tuples(finite, st.sampled_from([-1, 1])), min_size=1, max_size=8), finite, st.floats(0.1, 9))
def test_the_hinge_is_what_it_says(pairs, margin, scale):
    outputs = torch.tensor([o for o, _ in pairs], dtype=torch.float64)
    labels = torch.tensor([y for _, y in pairs])
    by_hand = sum(max(0.0, margin - y * o / scale) ** 2 for o, y in pairs) / len(pairs)
    loss = hinge(margin, scale)
    assert float(loss(outputs, labels)) == pytest.approx(by_hand, rel=1e-12, abs=1e-12)
    assert torch.equal(loss(outputs[:, None], labels), loss(outputs, labels))


def test_the_hinge_is_differentiable_and_keeps_the_dtype():
    outputs = torch.tensor([0.2, -3.0], requires_grad=True)
    loss = hinge(0.5, scale=2.0)(outputs, torch.tensor([1, -1]))
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(outputs.grad, torch.tensor([-0.5 * (0.5 - 0.1), 0.0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": math.nan}, "Invalid margin: nan"),
        ({"margin": math.inf}, "Invalid margin: inf"),
        ({"margin": 1.0, "scale": 0.0}, "Invalid scale: 0.0"),
        ({"margin": 1.0, "scale": -2.0}, "Invalid scale: -2.0"),
        ({"margin": 1.0, "scale": math.nan}, "Invalid scale: nan"),
    ],
)
def test_the_hinge_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        hinge(**arguments)


class OwnEntropy(nn.CrossEntropyLoss):
    def forward(self, outputs, targets):
        return super().forward(outputs, targets) ** 2


@pytest.mark.parametrize(
    ("loss", "spec"),
    [
        (F.cross_entropy, LossSpec("cross_entropy")),
        (nn.CrossEntropyLoss(), LossSpec("cross_entropy")),
        (nn.CrossEntropyLoss(label_smoothing=0.1), LossSpec("cross_entropy", smoothing=0.1)),
        (functools.partial(F.cross_entropy), LossSpec("cross_entropy")),
        (functools.partial(F.cross_entropy, label_smoothing=0.2), LossSpec("cross_entropy", smoothing=0.2)),
        (functools.partial(F.cross_entropy, reduction="mean"), LossSpec("cross_entropy")),
        (
            functools.partial(functools.partial(F.cross_entropy, reduction="mean"), label_smoothing=0.2),
            LossSpec("cross_entropy", smoothing=0.2),
        ),
        (F.mse_loss, LossSpec("mse")),
        (nn.MSELoss(), LossSpec("mse")),
        (functools.partial(F.mse_loss, reduction="mean"), LossSpec("mse")),
        (hinge(0.5, 3.0), LossSpec("hinge", margin=0.5, scale=3.0)),
        (Hinge(1.0), LossSpec("hinge", margin=1.0)),
        # What differs from these in any way is its author's own.
        (nn.CrossEntropyLoss(weight=torch.ones(3)), None),
        (nn.CrossEntropyLoss(ignore_index=1), None),
        (nn.CrossEntropyLoss(reduction="sum"), None),
        (OwnEntropy(), None),
        (functools.partial(F.cross_entropy, weight=torch.ones(3)), None),
        (functools.partial(F.cross_entropy, ignore_index=0), None),
        (functools.partial(F.cross_entropy, reduction="none"), None),
        (functools.partial(F.cross_entropy, torch.zeros(2, 2)), None),
        (functools.partial(nn.CrossEntropyLoss(), label_smoothing=0.1), None),
        (nn.MSELoss(reduction="sum"), None),
        (functools.partial(F.mse_loss, reduction="sum"), None),
        (F.l1_loss, None),
        (lambda o, y: F.cross_entropy(o, y) + 0, None),
    ],
)
def test_describe(loss, spec):
    assert describe(loss) == spec


@pytest.mark.parametrize(
    "loss", [F.cross_entropy, nn.CrossEntropyLoss(), functools.partial(F.cross_entropy, label_smoothing=0.3)]
)
def test_smoothed_targets(loss):
    """Targets (1 - eps) onehot + eps / C, whatever smoothing the loss had before."""
    g = torch.Generator().manual_seed(0)
    outputs, labels = torch.randn(7, 4, generator=g, dtype=torch.float64), torch.randint(4, (7,), generator=g)
    targets = 0.9 * F.one_hot(labels, 4).double() + 0.1 / 4
    by_hand = -(targets * outputs.log_softmax(1)).sum(1).mean()
    smooth = smoothed(loss, 0.1)
    torch.testing.assert_close(smooth(outputs, labels), by_hand)
    assert describe(smooth) == LossSpec("cross_entropy", smoothing=0.1)
    assert smoothed(loss, 0.0) is loss


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 2.0, math.nan])
def test_smoothing_refuses_a_bad_number(smoothing):
    with pytest.raises(ValueError, match=f"Invalid smoothing: {smoothing}; a number in"):
        smoothed(F.cross_entropy, smoothing)


@pytest.mark.parametrize("loss", [F.mse_loss, hinge(1.0), nn.CrossEntropyLoss(ignore_index=0), torch.sum])
def test_smoothing_needs_a_plain_cross_entropy(loss):
    with pytest.raises(ValueError, match=r"Invalid smoothing: 0\.1; it needs cross_entropy"):
        smoothed(loss, 0.1)
    assert smoothed(loss, 0.0) is loss
