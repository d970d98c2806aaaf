"""On which examples: the part of the data that the passes of a step use.

`batch` chooses from a batch, `epoch` leaves examples out of whole epochs.
"""

from sam_optax.selection.batch import LossRiseState as LossRiseState
from sam_optax.selection.batch import UniformState as UniformState
from sam_optax.selection.batch import by_loss_rise as by_loss_rise
from sam_optax.selection.batch import draw_weights as draw_weights
from sam_optax.selection.batch import full_batch as full_batch
from sam_optax.selection.batch import most_sensitive as most_sensitive
from sam_optax.selection.batch import ramp as ramp
from sam_optax.selection.batch import uniformly as uniformly
from sam_optax.selection.epoch import LossState as LossState
from sam_optax.selection.epoch import by_loss as by_loss
from sam_optax.selection.epoch import prune as prune
