"""The demonstrations by name: one file beside this one and one row for each."""

from train.tools.demos.classification import CLASSIFICATION
from train.tools.demos.demo import Demo as Demo
from train.tools.demos.dense import POSE, SEGMENTATION
from train.tools.demos.noise import NOISE
from train.tools.demos.quantisation import QUANTISATION

DEMOS = {
  'noise': NOISE,
  'classification': CLASSIFICATION,
  'segmentation': SEGMENTATION,
  'pose': POSE,
  'quantisation': QUANTISATION,
}
