"""Five methods on scikit-learn's digits."""

from train.tools.demos.demo import Demo

CLASSIFICATION = Demo(config='configs.digits')
