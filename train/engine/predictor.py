"""A trained model in use: from images to what it says of them."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train import models, tasks
from train.checks import ConfigError, DataError
from train.data import image, stream
from train.engine import export, network
from train.models.weights import saved

# Images that are predicted together at most.
_BATCH = 512


class Predictions(NamedTuple):
  """What a model says of some images.

  Attributes:
    outputs: of the network, float32 ``[n, ...]``, such as the logits
      ``[n, classes]``; of some tasks a tree of such arrays.
    probabilities: float32 ``[n, classes]``; None where the outputs are of no
      classes. After training with ``loss='sigmoid'`` each class is a question
      of its own, and they do not sum to 1.
  """

  outputs: Any
  probabilities: Any


class Predictor:
  """A trained model.

  Attributes:
    config: of its run.
    image_shape: height, width and channels of the images that it takes.
    class_names: of the classes by their numbers, '0', '1' and so on where the
      data set had no names; empty for a task without classes.
  """

  def __init__(self, exported: export.Exported):
    self.config = exported.config
    described = exported.described
    self.image_shape = described.image_shape
    self._task = tasks.create(described.normalising(self.config), described)
    _check_alone(self._task)
    model = restore(exported, self._task)
    self._arrays = model.params, model.statistics
    self._apply = model.apply
    self._jitted = jax.jit(self._predict)
    self.class_names: Sequence[str] = ()
    if self._task.probabilities is not None:
      numbers = tuple(map(str, range(described.facts['num_classes'])))
      self.class_names = tuple(described.facts.get('class_names') or numbers)

  def __call__(self, images: np.ndarray) -> Predictions:
    """Predicts some images, at most 512 of them at a time.

    Args:
      images: uint8 ``[n, height, width, channels]`` of `image_shape`, not
        normalised; see `read` for those in files.

    Returns:
      What the model says of them, as NumPy arrays.

    Raises:
      DataError: if they are no such images.
      ConfigError: if the task tests on several versions of each image.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
      raise DataError(
        f'Given {images.dtype} images of shape {images.shape}. The model takes'
        f' uint8 of shape {("n", *self.image_shape)}, values 0 to 255. Convert'
        ' them, or read them from files with read(path).'
      )
    if not len(images):
      raise DataError(
        'Given an array of 0 images. There is nothing to predict. Give one'
        ' image or more.'
      )
    # Few sizes, each of which is compiled once.
    size = min(_BATCH, 1 << (len(images) - 1).bit_length())
    found = []
    for start in range(0, len(images), size):
      some = images[start : start + size]
      # The last batch is filled up with its first image.
      filled = np.concatenate([some, np.repeat(some[:1], size - len(some), 0)])
      found.append(jax.device_get(self._jitted(*self._arrays, filled)))
    whole = lambda *parts: np.concatenate(parts)[: len(images)]
    return jax.tree.map(whole, *found)

  def read(
    self, path: str | os.PathLike[str], resize: bool = False
  ) -> np.ndarray:
    """Reads an image file as the run read its own.

    With `data.size` the middle of the image is cut out, resized and converted
    to the channels of the model. Without, an image of another shape is refused
    unless `resize` asks for the same.

    Args:
      path: of the file.
      resize: whether to cut, resize and convert it in any case.

    Returns:
      uint8 ``[height, width, channels]``.

    Raises:
      DataError: if it is no whole image, or of another shape.
    """
    file = os.fspath(path)
    options, shape = self.config.data, self.image_shape
    if options.size is not None or resize:
      _check_resizable(shape)
      cropped = options.crop == 'inception'
      spec = stream.ImageSpec(shape, resized=True, inception=cropped)
      return spec.read(image.Encoded(file, 0, repr(file)), None)
    pixels = image.read(file, repr(file))
    if pixels.shape != shape:
      raise DataError(
        f'Cannot predict {file!r}. Its shape is {pixels.shape}, and the model'
        f' takes {shape}: height, width and channels. Convert it, or have its'
        ' middle cut out, resized and converted: --resize, or'
        ' read(path, resize=True).'
      )
    return pixels

  def _predict(self, params: Any, statistics: Any, images: jax.Array):
    count = len(images)
    # These fields do not change the image that the network sees, see above.
    rows = {
      'image': images,
      'id': jnp.zeros(count, jnp.int32),
      **{
        name: jnp.full((count, *field.shape), field.fill, field.dtype)
        for name, field in self._task.fields.items()
      },
    }
    batch = self._task.prepare(None, rows)
    if len(batch['image']) != count:
      raise ConfigError(
        f'Given a model of task={self.config.task!r}, whose test passes each'
        ' image to the network more than once. Its outputs are not one for each'
        ' image. Train with the option of the task that asks for it off, such'
        ' as flip_test.'
      )
    outputs, _ = self._apply(params, statistics, batch['image'], False)
    if self._task.probabilities is None:
      return Predictions(outputs, None)
    return Predictions(outputs, self._task.probabilities(outputs))


def load(folder: str | os.PathLike[str]) -> Predictor:
  """Loads a trained model, without its data set and its checkpoints.

  Args:
    folder: of a finished run, or the folder `model` in it, which can be copied
      anywhere.

  Returns:
    The model: ``predictor(images)`` gives outputs and probabilities.

  Raises:
    DataError: if the folder holds no whole model.
    ConfigError: if this version of the program cannot build it, or it needs
      more of an example than its image.
  """
  if not os.fspath(folder):
    raise ConfigError(
      "Given workdir=''. It names no folder. Give that of a finished run."
    )
  return Predictor(export.read(pathlib.Path(folder).expanduser()))


def restore(exported: export.Exported, task: tasks.Task) -> models.Functional:
  """Builds the network of a trained model, with its arrays.

  Args:
    exported: the model, as its folder has it.
    task: of its run.

  Returns:
    The network.

  Raises:
    DataError: if an array is missing, or has another shape.
    ConfigError: if this version of the program cannot build it.
  """
  described = exported.described
  config = exported.config.copy_and_resolve_references()
  # The file that the run began from is not needed any more.
  if 'pretrained' in config.model:
    config.model.pretrained = None
  outputs = task.outputs(described)
  model = network.build(config, outputs, described.image_shape, seed=0)
  params, statistics = (
    saved.fill(prefix, tree, exported.arrays)
    for prefix, tree in (
      ('params', model.params),
      ('statistics', model.statistics),
    )
  )
  return model._replace(params=params, statistics=statistics)


def _check_alone(task: tasks.Task) -> None:
  needed = [name for name, field in task.fields.items() if field.places_image]
  if needed:
    raise ConfigError(
      f'Given a model that reads {" and ".join(needed)} beside each image. They'
      ' say which part of the image the network sees, and image files alone do'
      ' not have them. Test the model on a data set that has them: the score is'
      ' in the result.json of its run.'
    )


def _check_resizable(shape: tuple[int, ...]) -> None:
  height, width, channels = shape
  if height != width or channels not in (1, 3):
    raise DataError(
      f'Cannot resize images for this model. It takes the shape {shape}, and'
      ' images are cut to squares of 1 or 3 channels only. Convert them to this'
      ' shape yourself.'
    )
