"""TFDS builders that prepare a data set without TensorFlow.

TFDS's own image builders encode their images with TensorFlow. These give TFDS
images that are PNG bytes already and write the `array_record` format, so that
both preparing and reading need Pillow only:

  prepare(Cifar10(records=..., data_dir=...))
  tfds.data_source('cifar10', data_dir=..., download=False)
"""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from train.checks import DataError, said
from train.data import cifar


class _Cifar(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """CIFAR from its published files, in their order.

  The result has the name, version and features of TFDS's own, and is read by
  `tfds.data_source`. Unlike there the examples are not shuffled, so an
  example's position is its position in the published files.

  Args:
    records: as `train.data.cifar.read` returns them.
    **kwargs: as every TFDS builder takes.
  """

  VERSION = tfds.core.Version('0.0.0')  # each set has its own
  PUBLISHED: cifar.Published

  def __init__(self, *, records: Mapping[str, np.ndarray], **kwargs: Any):
    self._records = records
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    labels = self.PUBLISHED.labels
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        '60,000 colour images of 32x32 pixels in'
        f' {len(labels[-1].classes)} classes.'
      ),
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'image': tfds.features.Image(shape=(32, 32, 3)),
          **{
            label.name: tfds.features.ClassLabel(names=label.classes)
            for label in labels
          },
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
    names = [label.name for label in self.PUBLISHED.labels]
    records = self._records[split]
    pixels = records[:, len(names) :].reshape(-1, 3, 32, 32)
    for index, image in enumerate(pixels.transpose(0, 2, 3, 1)):
      labels = map(int, records[index, : len(names)])
      yield (
        index,
        {
          'id': f'{split}_{index:05d}',
          'image': _png(image),
          **dict(zip(names, labels, strict=True)),
        },
      )


class Cifar10(_Cifar, skip_registration=True):
  """CIFAR-10."""

  # Any other version would not be found by the name.
  VERSION = tfds.builder_cls('cifar10').VERSION
  PUBLISHED = cifar.CIFAR10


class Cifar100(_Cifar, skip_registration=True):
  """CIFAR-100."""

  VERSION = tfds.builder_cls('cifar100').VERSION
  PUBLISHED = cifar.CIFAR100


BUILDERS = {'cifar10': Cifar10, 'cifar100': Cifar100}


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
          f' there failed: {said(error)} Give another --data_dir.'
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
