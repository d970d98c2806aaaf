"""On which steps to perturb, and so to pay for a second gradient.

Every cadence decides the same way on every device: from the step, from a key
in the state, or from statistics of the gradient averaged over devices.
"""

from sam_optax.cadence.adaptive import (
  AutoregressiveState as AutoregressiveState,
)
from sam_optax.cadence.adaptive import GradientSurgeState as GradientSurgeState
from sam_optax.cadence.adaptive import autoregressive as autoregressive
from sam_optax.cadence.adaptive import gradient_surge as gradient_surge
from sam_optax.cadence.plain import BernoulliState as BernoulliState
from sam_optax.cadence.plain import bernoulli as bernoulli
from sam_optax.cadence.plain import between as between
from sam_optax.cadence.plain import every as every
from sam_optax.cadence.plain import never as never
from sam_optax.cadence.variation import QuotaState as QuotaState
from sam_optax.cadence.variation import draw_quota as draw_quota
from sam_optax.cadence.variation import quota as quota
