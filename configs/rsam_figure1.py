"""R-SAM, figure 1: how far a gradient tells the one beyond it, by the radius.

python -m train --workdir=runs/gradient \
  --config=configs/rsam_figure1.py:resnet18-cifar100-sgd_momentum

The runs whose checkpoints are measured: the cosine between the gradient at a
point and at a distance of rho along it, for the weights and for weights with
noise. The text speaks of a ResNet and a WideResNet, and for figure 2 of
CIFAR-100; the rest is our choice. This measures the figures 1 and 2 of a run,
where the noise has the standard deviations whose squares the paper prints:

python -m train.look runs/gradient --noise=0.0866,0.1,0.1118 --out=runs/look
"""

from configs import published, rsam
from train import config as train_config

TABLE = published.title('rsam', 1, 'figure')
VARIANTS = published.named(
  published.Row(model=model, dataset='cifar100', method='sgd_momentum')
  for model in ('resnet18', 'wrn28_10')
)
PUBLISHED = {}  # the text gives no value
NOISE = published.figure('rsam', 1)['gamma_squared']


def get_config(variant: str = 'resnet18-cifar100-sgd_momentum'):
  return rsam.cifar(train_config.pick_variant(variant, VARIANTS))
