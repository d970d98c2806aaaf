"""What to look at in a network that was trained: how flat its minimum is.

`sharpness` is how far the loss rises nearby, `curvature` is of the Hessian, and
`landscape` is what pictures of the loss are drawn from. Flat is not the same as
good: across trainings, sharpness "does not correlate well with generalization"
(Andriushchenko et al., `A Modern Look at the Relationship between Sharpness and
Generalization <https://arxiv.org/abs/2302.07011>`_, 2023).
"""

from sam_optax.diagnostics.curvature import hessian_trace as hessian_trace
from sam_optax.diagnostics.curvature import spectrum as spectrum
from sam_optax.diagnostics.curvature import top_eigenvalues as top_eigenvalues
from sam_optax.diagnostics.landscape import along as along
from sam_optax.diagnostics.landscape import (
  filter_normalized as filter_normalized,
)
from sam_optax.diagnostics.sharpness import Agreement as Agreement
from sam_optax.diagnostics.sharpness import agreement as agreement
from sam_optax.diagnostics.sharpness import sharpness as sharpness
