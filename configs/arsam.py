"""The runs of ARSAM.

Beside each number stands its source: a section of the paper, or "our choice".
Its appendix could not be had, which has learning rate, weight decay and radius.
SGD, SAM, LookSAM and ESAM have the same accuracies as in AUSAM, digit for
digit: the training, the networks and these methods are those of
`configs/ausam.py`. So WRN-28-10 has four blocks in a stage here too, and five
with `--config.model.depth=34`, as in the code of AUSAM.
"""

from typing import Any

from configs import ausam, published, settings
from train import config as train_config

_ALPHA = {
  'cifar10': 0.2,  # paper: section 4.2, as the next two
  'cifar100': 0.4,
  'tiny_imagenet': 0.8,
  # Not given: our choice, in the middle of the recommended 0.1 to 1.
  'mpii': 0.4,
  'voc2012': 0.4,
}


def config(row: published.Row, **changes: Any) -> train_config.Config:
  """A run of ARSAM's tables.

  Args:
    row: what to train.
    **changes: arguments of its method other than the paper's.

  Returns:
    The config.
  """
  rho = ausam.numbers(row).rho  # AUSAM: tables 7 to 10
  arsam = {
    'rho': rho,
    # paper: the table, and sections 4.2 and 4.5. Of quantised runs not given:
    # our choice, that of CIFAR-10.
    'alpha': row.setting.get('alpha') or _ALPHA[row.dataset],
    'beta': 0.9,  # paper: sections 3.2 and 4.1
    'segment': 50,  # paper: sections 3.2 and 4.1
    # Not given: our choice, the first three epochs as in the code of vSAM.
    'warmup_steps': 3 * settings.steps_per_epoch(row, ausam.batch_size(row)),
    'horizon': 2,  # paper: the remark after theorem 3
  }
  own = {
    'sam_k': {'rho': rho, 'k': 5},  # paper: table 3
    'arsam': arsam,
    'arsam_a': {**arsam, 'horizon': 0},  # paper: section 4.4, no reuse
  }
  method = settings.named_method(row)
  arguments = own[method] if method in own else ausam.arguments(row)
  return ausam.training(row, {**arguments, **changes})
