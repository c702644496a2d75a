"""Second derivatives of an objective over a chosen subset of weights, and second moments of whole layers."""

from qanneal_opt.curvature.feed import Feed
from qanneal_opt.curvature.ggn import ggn
from qanneal_opt.curvature.hessian import gradient, hessian
from qanneal_opt.curvature.layer import Moments, layer_moments
from qanneal_opt.curvature.row import row_model

__all__ = ["Feed", "Moments", "ggn", "gradient", "hessian", "layer_moments", "row_model"]
