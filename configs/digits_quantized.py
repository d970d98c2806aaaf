"""Quantised networks on scikit-learn's digits, from a float network.

python -m train --config=configs/digits_quantized.py:float --workdir=runs/float
python -m train.sweep --config=configs/digits_quantized.py \
  --methods='w2a4-*,w4a4-*' --workdir=runs/quantized

The first command trains the network that the others start from;
`--config.model.pretrained=FOLDER` names another folder.
"""

from configs import digits
from train import config as train_config
from train.models.quantize import section

# The methods' arguments as on the digits in float: none was chosen for this.
_METHODS = ('sgd', 'sam', 'arsam', 'ausam', 'arsam_ausam')
_BITS = {'w2a4': (2, 4), 'w4a4': (4, 4)}

VARIANTS = {
  'float': ('sgd', None),
  **{
    f'{name}-{method}': (method, bits)
    for name, bits in _BITS.items()
    for method in _METHODS
  },
}

# What `make demo TASK=quantisation` puts side by side.
DEMO = {
  'SGD': 'w2a4-sgd',
  'SAM': 'w2a4-sam',
  'ARSAM': 'w2a4-arsam',
  'AUSAM': 'w2a4-ausam',
}


def get_config(variant: str = 'w2a4-sam'):
  method, bits = train_config.pick_variant(variant, VARIANTS)
  config = digits.get_config(method)
  if bits is not None:
    config.model.quantize = section(*bits)
    config.model.pretrained = 'runs/float'
    # A tenth of the float network's, as LSQ's paper and AUSAM's table 10.
    config.optimizer.learning_rate = 0.01
  return config
