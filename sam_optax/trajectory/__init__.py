r"""Methods that replace the loss and take no second gradient: SAF and MESA.

Both add a divergence between the logits of the network and earlier logits for
the same examples to the loss: :math:`\lambda \tau^2` times the mean of
:math:`KL(\text{softmax}(\bar z / \tau) \| \text{softmax}(z / \tau))`, where
:math:`\bar z` are the earlier logits. No gradient flows into them.
"""

from sam_optax.trajectory._loss import divergence as divergence
from sam_optax.trajectory._mesa import MesaState as MesaState
from sam_optax.trajectory._mesa import mesa as mesa
from sam_optax.trajectory._saf import SafState as SafState
from sam_optax.trajectory._saf import saf as saf
from sam_optax.trajectory._saf import slots as slots
