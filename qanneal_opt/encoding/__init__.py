"""What annealing may do to a weight: other levels, displacements, or keep and drop."""

from qanneal_opt.encoding.base import Encoded, Encoding
from qanneal_opt.encoding.levels import Levels
from qanneal_opt.encoding.mask import Mask
from qanneal_opt.encoding.window import Window

__all__ = ["Encoded", "Encoding", "Levels", "Mask", "Window"]
