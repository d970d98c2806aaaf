"""Methods on scikit-learn's digits, where they hardly differ."""

from train.tools.demos.demo import Demo

CLASSIFICATION = Demo(
  config='configs.digits',
  about='all labels right',
  further=(
    ('make demo', 'the same digits with wrong labels, where methods differ'),
    (
      'make demo TASK=classification METHODS=all',
      'every method, some 20 minutes',
    ),
  ),
)
