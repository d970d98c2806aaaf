r"""SAF and MESA: no second gradient, another loss.

Both add to the loss the divergence between the network's outputs and earlier
ones on the same examples: :math:`\lambda \tau^2` times the mean of
:math:`KL(\text{softmax}(\bar z / \tau) \| \text{softmax}(z / \tau))`, with
:math:`\bar z` the earlier logits, which no gradient flows into.
"""

from sam_optax.trajectory._loss import divergence as divergence
from sam_optax.trajectory._mesa import MesaState as MesaState
from sam_optax.trajectory._mesa import mesa as mesa
from sam_optax.trajectory._saf import SafState as SafState
from sam_optax.trajectory._saf import saf as saf
from sam_optax.trajectory._saf import slots as slots
