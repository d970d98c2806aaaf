"""TFDS builders that prepare a data set without TensorFlow.

TFDS's own image builders encode their images with TensorFlow. These give TFDS
images that are PNG bytes already and write the `array_record` format, so that
both preparing and reading need Pillow only:

  Digits(data_dir=...).download_and_prepare(file_format='array_record')
  tfds.data_source('digits', data_dir=..., download=False)
"""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from train.checks import DataError
from train.data.cifar import CIFAR10_CLASSES


class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """The 1,797 handwritten 8x8 digits that are part of scikit-learn."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Handwritten digits of 8x8 pixels from scikit-learn.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(8, 8, 1)),
          'label': tfds.features.ClassLabel(num_classes=10),
        }
      ),
      supervised_keys=('image', 'label'),
      homepage='https://doi.org/10.24432/C50P49',
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    del dl_manager
    try:
      from sklearn import datasets
    except ImportError as error:
      raise DataError(
        "Cannot prepare 'digits'. The images are part of scikit-learn, which"
        ' is not installed. Install it: pip install scikit-learn.'
      ) from error
    pixels, labels = datasets.load_digits(return_X_y=True)
    images = np.round(pixels * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    is_test = np.arange(len(labels)) % 5 == 0
    return {
      'train': self._generate_examples(images[~is_test], labels[~is_test]),
      'test': self._generate_examples(images[is_test], labels[is_test]),
    }

  def _generate_examples(
    self, images: np.ndarray, labels: np.ndarray
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
      yield index, {'image': _png(image), 'label': int(label)}


class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """CIFAR-10 from its published files, in their order.

  The result has the name, version and features of TFDS's own `cifar10`, and is
  read by `tfds.data_source('cifar10')`. Unlike there the examples are not
  shuffled, so an example's position is its position in the published files.

  Args:
    records: the `train` and `test` records as `read_cifar10` gives them.
    **kwargs: as every TFDS builder takes.
  """

  # Any other version would not be found by the name.
  VERSION = tfds.builder_cls('cifar10').VERSION

  def __init__(self, *, records: Mapping[str, np.ndarray], **kwargs: Any):
    self._records = records
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='60,000 colour images of 32x32 pixels in 10 classes.',
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'image': tfds.features.Image(shape=(32, 32, 3)),
          'label': tfds.features.ClassLabel(names=CIFAR10_CLASSES),
        }
      ),
      supervised_keys=('image', 'label'),
      homepage='https://www.cs.toronto.edu/~kriz/cifar.html',
      citation=(
        'Krizhevsky, A., Learning multiple layers of features from tiny'
        ' images, 2009'
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    del dl_manager
    return {split: self._generate_examples(split) for split in self._records}

  def _generate_examples(
    self, split: str
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    records = self._records[split]
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    for index, (image, label) in enumerate(
      zip(images, records[:, 0], strict=True)
    ):
      yield (
        index,
        {
          'id': f'{split}_{index:05d}',
          'image': _png(image),
          'label': int(label),
        },
      )


def prepare(builder: Any) -> str:
  """Prepares a set, unless it is prepared already.

  Args:
    builder: of the set.

  Returns:
    What was done, for people.

  Raises:
    DataError: when it cannot be written.
  """
  prepared = builder.is_prepared()
  if not prepared:
    try:
      # Not an argument of the builder: one that is prepared otherwise fails.
      builder.download_and_prepare(file_format='array_record')
    except OSError as error:
      # Of several processes that start at once, one is the first to finish.
      if not builder.is_prepared():
        raise DataError(
          f'Cannot prepare {builder.name!r} in {builder.data_path}. Writing'
          f' there failed: {error}. Give another --data_dir.'
        ) from error
    finally:
      # TFDS removes the unfinished folder, but not the one it was made in.
      with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(builder.data_path))
  counts = ', '.join(
    f'{split.num_examples:,} {name}'
    for name, split in builder.info.splits.items()
  )
  did = 'was prepared already and is left alone' if prepared else 'is prepared'
  return f'{builder.name} {did}: {counts} examples in {builder.data_path}'


def _png(image: np.ndarray) -> io.BytesIO:
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, 'png')
  buffer.seek(0)
  return buffer
