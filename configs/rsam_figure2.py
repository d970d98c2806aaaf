"""R-SAM, figure 2: the loss at a distance along the gradient, by the radius.

python -m train --workdir=runs/gradient \
  --config=configs/rsam_figure2.py:resnet18-cifar100-sgd_momentum

The run whose last checkpoint is measured, that of epoch 200 on CIFAR-100, for
the weights and for weights with noise; see rsam_figure1.py. The text names no
network: our choice.
"""

from configs import published, rsam
from train import config as train_config

TABLE = published.title('rsam', 2, 'figure')
VARIANTS = published.named(
  [published.Row(model='resnet18', dataset='cifar100', method='sgd_momentum')]
)
PUBLISHED = {}  # the text gives no value
NOISE = published.figure('rsam', 2)['gamma_squared']


def get_config(variant: str = 'resnet18-cifar100-sgd_momentum'):
  return rsam.cifar(train_config.pick_variant(variant, VARIANTS))
