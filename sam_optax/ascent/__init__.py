"""Where to perturb to: from a gradient to a perturbation of the parameters.

`radius` turns a direction into a perturbation of a given size, `direction` a
gradient into another direction. Every ascent is an Optax transformation, and
ascents chain with each other and with the transformations of Optax::

  chain(friendly(), adaptive(rho=2.0))  # F-ASAM
  chain(centralized(), gradient(rho=0.05))  # GCSAM
  chain(optax.masked(optax.set_to_zero(), kernels), gradient(0.05))

`noise` holds the ascents that draw: they may move the point of the first
gradient, or need no gradient.
"""

from sam_optax._ascent import Ascent as Ascent
from sam_optax._ascent import Context as Context
from sam_optax._ascent import Perturbation as Perturbation
from sam_optax._ascent import chain as chain
from sam_optax.ascent.direction import AverageState as AverageState
from sam_optax.ascent.direction import average as average
from sam_optax.ascent.direction import centralized as centralized
from sam_optax.ascent.direction import friendly as friendly
from sam_optax.ascent.direction import normalization as normalization
from sam_optax.ascent.direction import only as only
from sam_optax.ascent.direction import random_mask as random_mask
from sam_optax.ascent.direction import reference as reference
from sam_optax.ascent.noise import gaussian as gaussian
from sam_optax.ascent.noise import kernel_noise as kernel_noise
from sam_optax.ascent.noise import posterior as posterior
from sam_optax.ascent.noise import random as random
from sam_optax.ascent.radius import adaptive as adaptive
from sam_optax.ascent.radius import fisher as fisher
from sam_optax.ascent.radius import gradient as gradient
from sam_optax.ascent.radius import multi_step as multi_step
from sam_optax.ascent.radius import unified as unified
