"""ARSAM, figure 2: the norms of the gradient and of the PSF over training.

python -m train --config=configs/arsam_figure2.py:resnet18-cifar100-sam \
  --workdir=runs/norms

The PSF is the gradient at the perturbed weights less the one at the weights.
Both norms are measured while SAM trains, every 100 steps (our choice):

python -m train.report.figures runs/norms --show=gradient_norm,psf_norm \
  --out=norms.png
"""

from configs import arsam, published
from train import config as train_config

TABLE = published.title('arsam', 2, 'figure')
VARIANTS = published.named(
  published.Row(model=model, dataset='cifar100', method='sam')
  for model in ('resnet18', 'wrn28_10', 'pyramidnet110')
)
PUBLISHED = {}  # the text gives no value


def get_config(variant: str = 'resnet18-cifar100-sam'):
  config = arsam.config(train_config.pick_variant(variant, VARIANTS))
  config.measure_every = 100
  return config
