"""AUSAM, figure 1: how well the kept examples stand for the batch.

python -m train --config=configs/ausam_figure1.py:resnet18-cifar100-ausam_1 \
  --workdir=runs/kept

The cosine between the gradient of the kept examples and that of the batch,
before and after the perturbation, is measured during these runs, every 100
steps (our choice); figures 2 and 3 are of the runs with AUSAM: the norm of the
gradient, and the perturbed loss of the batch less that of the kept examples.
AUSAM-1 samples by the last loss rise, AUSAM by the mean of all.

python -m train.report.figures runs/kept --out=kept.png \
  --show=chosen_cosine,chosen_perturbed_cosine,chosen_loss_difference
"""

from configs import ausam, published
from train import config as train_config

TABLE = published.title('ausam', 1, 'figure')
VARIANTS = published.named(
  published.Row(
    model=model,
    dataset='cifar100',
    method=method,
    setting={'keep': published.figure('ausam', 1)['keep']},
  )
  for model in ('resnet18', 'wrn28_10', 'pyramidnet110')
  for method in ('sam_random', 'ausam_1', 'ausam')
)
PUBLISHED = {}  # the text gives no value


def get_config(variant: str = 'resnet18-cifar100-sam_random'):
  config = ausam.config(train_config.pick_variant(variant, VARIANTS))
  config.measure_every = 100
  return config
