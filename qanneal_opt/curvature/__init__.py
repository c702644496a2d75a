"""Second derivatives of an objective over a chosen subset of weights."""

from qanneal_opt.curvature.ggn import ggn
from qanneal_opt.curvature.hessian import gradient, hessian
from qanneal_opt.curvature.row import row_model

__all__ = ["ggn", "gradient", "hessian", "row_model"]
