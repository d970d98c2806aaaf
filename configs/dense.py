"""The runs on VOC 2012 and on MPII, of ARSAM and of AUSAM.

Beside each number stands its source: a section or table of a paper, the code of
the network, or "our choice". The codes are hszhao/semseg for PSPNet,
VainF/DeepLabV3Plus-Pytorch for DeepLabv3+, and leeyegy/SimCC for pose; which
ones the papers trained with is not said.

Two things of these codes are not here: the Gaussian blur of semseg, and the
BatchNorm momentum of 0.01 in the backbone of DeepLabV3Plus-Pytorch.
"""

from collections.abc import Callable

from configs import published, settings
from train import config as train_config

# Pose: ARSAM, section 4.7, and AUSAM, table 9. Segmentation: both codes.
BATCH_SIZES = {'simcc_hrnet': 64, 'pspnet': 16, 'deeplabv3plus': 16}


def segmentation(
  config: train_config.Config, row: published.Row, learning_rate: float
) -> None:
  """Training of a network of ARSAM's table 7, of which the paper gives none.

  Args:
    config: what `settings.start` made; it is changed.
    row: what is trained.
    learning_rate: of the code, before its factors on parts of the network.
  """
  deeplab = row.model == 'deeplabv3plus'
  options = {
    'crop': settings.pixels_of(row),  # the codes, see `settings.NETWORKS`
    'scale': (0.5, 2.0),  # both codes
    'rotation': 0.0 if deeplab else 10.0,  # likewise
  }
  if not deeplab:
    # semseg, but for a resize of the image before the test. The other code
    # tests on whole images.
    options.update(auxiliary_weight=0.4, window=473, flip_test=True)
  with config.unlocked():
    config.segmentation = options
  # semseg: 50 epochs; DeepLabV3Plus-Pytorch: 30,000 steps, 45.4 epochs.
  config.epochs = 46 if deeplab else 50
  config.steps = 30_000 if deeplab else None
  config.optimizer.update(
    name='sgd',
    learning_rate=learning_rate,
    momentum=0.9,  # both codes
    schedule='poly',  # likewise, with this power
    power=0.9,
    # semseg has ten times the rate in the heads, the other code a tenth of it
    # in the backbone.
    multipliers=(('backbone', 0.1),) if deeplab else (('head', 10.0),),
  )
  # Of the memory for logits of whole images: our choice.
  config.test_batch_size = 16


def pose(
  config: train_config.Config, row: published.Row, learning_rate: float
) -> None:
  """Training of SimCC on MPII.

  Args:
    config: what `settings.start` made; it is changed.
    row: what is trained.
    learning_rate: of Adam.
  """
  # AUSAM: table 9, and ARSAM: section 4.7. AUSAM's appendix B.3 says 224.
  config.data.size = settings.pixels_of(row)
  with config.unlocked():
    # SimCC's code for MPII at 256 pixels. Whether the papers train SimCC or
    # SA-SimCC, which is this one, is not said: our choice.
    config.pose = {
      'split': 2,
      'sigma': 6.0,
      'scale': 0.25,
      'rotation': 30.0,
      'flip': True,
      'flip_test': True,
    }
  # ARSAM's images per second times the seconds of AUSAM's table 5 are 4.44
  # million images with Adam and 4.43 million with SAM: 200 epochs of 22,246
  # people. SimCC's code has 210.
  config.epochs = 200
  config.optimizer.update(
    name='adam',  # ARSAM: section 4.7; AUSAM: table 9
    learning_rate=learning_rate,
    # SimCC's code: a tenth from epochs 170 and 200 of its 210 on.
    schedule='drops',
    drop_at=(170 / 210, 200 / 210),
    drop=0.1,
  )
  config.test_batch_size = 64  # Of the memory: our choice.


RECIPES: dict[
  str, Callable[[train_config.Config, published.Row, float], None]
] = {'segmentation': segmentation, 'pose': pose}
