"""F-SAM, figure 1: SAM along one part of its gradient only.

python -m train --config=configs/fsam_figure1.py:resnet18-cifar100-sam_noise \
  --workdir=runs/parts

SAM-full takes the part along the gradient of the whole training set, SAM-noise
the rest of it. That gradient is taken anew in each step, so a step costs about
400 times as much as one of SAM; `--config.reference.batch_size=N` estimates it
from N images. The text names neither the network nor the sets: our choice.
"""

from configs import fsam, published
from train import config as train_config

TABLE = published.title('fsam', 1, 'figure')
VARIANTS = published.named(
  published.Row(model='resnet18', dataset=dataset, method=method)
  for dataset in ('cifar10', 'cifar100')
  for method in ('sam', 'sam_full', 'sam_noise')
)
PUBLISHED = {}  # the text gives no value


def get_config(variant: str = 'resnet18-cifar10-sam'):
  row = train_config.pick_variant(variant, VARIANTS)
  return fsam.with_reference(fsam.cifar(row), row)
