"""Classification: one label for an image."""

from train import checks
from train.checks import Config, ConfigError
from train.tasks import losses


def check(config: Config) -> None:
  """Checks what a config says of labels and losses.

  Args:
    config: the config of the run.

  Raises:
    ConfigError: if a value cannot be used.
  """
  checks.pick('loss', config.loss, losses.LOSSES)
  checks.pick(
    'smoothing_over',
    config.smoothing_over,
    dict.fromkeys(losses.SMOOTHED_OVER),
  )
  if not 0 <= config.label_smoothing < 1:
    raise ConfigError(
      f'Given label_smoothing={config.label_smoothing}. It is the share of the '
      'label that others get. Use a value from 0 to below 1.'
    )
  if config.smoothing_over == 'each' and config.loss == 'softmax':
    raise ConfigError(
      "Given smoothing_over='each' with loss='softmax'. Its targets are no "
      "distribution, which softmax needs. Use 'all' or 'wrong', or "
      "loss='sigmoid'."
    )
  checks.between(
    'data.label_noise',
    config.data.label_noise,
    0,
    1,
    'It is the share of the training labels that is replaced',
  )
  checks.pick(
    'data.noise_over', config.data.noise_over, dict.fromkeys(('all', 'wrong'))
  )
