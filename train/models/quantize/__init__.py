"""Quantisation with learned step sizes (LSQ), for any of the models.

A quantised layer computes with weights and inputs that take only ``2 ** bits``
values each. The parameters stay in float, and gradients pass the rounding as
if it were not there. The step between two values is a parameter too.
"""

from train.models.quantize.layers import Quantiser as Quantiser
from train.models.quantize.layers import StepSize as StepSize
from train.models.quantize.layers import flipped as flipped
from train.models.quantize.layers import is_own as is_own
from train.models.quantize.layers import quantisers as quantisers
from train.models.quantize.layers import wrap as wrap
from train.models.quantize.lsq import Codes as Codes
from train.models.quantize.lsq import codes as codes
from train.models.quantize.lsq import gradient_scale as gradient_scale
from train.models.quantize.lsq import initial_step as initial_step
from train.models.quantize.lsq import lsq as lsq
from train.models.quantize.network import quantize as quantize
from train.models.quantize.network import with_steps as with_steps
from train.models.quantize.settings import Settings as Settings
from train.models.quantize.settings import read as read
from train.models.quantize.settings import section as section
