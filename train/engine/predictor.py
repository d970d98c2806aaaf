"""A trained model in use: from images to what it says of them."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from train import models, tasks
from train.checks import ConfigError, DataError
from train.data import image, stream
from train.engine import export, network
from train.models.weights import saved
from train.tasks import Answer, Files, Panel, Rows, View

# Images that are predicted together at most, if the test had more.
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
    if self._task.files is None:
      _check_alone(self._task)
    model = restore(exported, self._task)
    self._arrays = model.params, model.statistics
    self._apply = model.apply
    self._jitted = {
      function: jax.jit(function)
      for function in (self._outputs, self._predict, self._sums)
    }
    self.class_names: Sequence[str] = ()
    if self._task.probabilities is not None:
      numbers = tuple(map(str, range(described.facts['num_classes'])))
      self.class_names = tuple(described.facts.get('class_names') or numbers)

  def __call__(self, images: np.ndarray) -> Predictions:
    """Predicts some images, at most 512 of them at a time.

    The run's `test_batch_size` bounds them too: the memory that its test had is
    enough for so many.

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
    _check_alone(self._task)
    return self._batched(self._outputs, {'image': images})

  @property
  def files(self) -> Files:
    """How the task says what is in image files, see `Task.files`."""
    if self._task.files is None or self._task.predict is None:
      raise ConfigError(
        f'Given a model of task={self.config.task!r}. Its outputs are of no'
        ' classes, and the task does not say how to speak of them. Use'
        ' train.predict.load in Python, which gives the outputs.'
      )
    return self._task.files

  def view(self, path: str | os.PathLike[str], **options: Any) -> View:
    """Reads an image file for `tell`.

    Args:
      path: of the file.
      **options: 'resize', see `read`, and those that `files` names.

    Returns:
      The image as the model takes it.

    Raises:
      DataError: if it is no whole image, or of another shape.
      ConfigError: if the task says nothing of image files.
    """
    files = self.files
    options = {'resize': False, **options}
    if files.view is None:
      return View({'image': self.read(path, options['resize'])})
    name = repr(os.fspath(path))
    pixels = image.read(os.fspath(path), name)
    grey, channels = pixels.shape[-1] == 1, self.image_shape[-1]
    if grey and channels == 3:
      pixels = pixels.repeat(3, axis=-1)
    if pixels.shape[-1] != channels:
      raise DataError(
        f'Cannot predict {name}. It has {pixels.shape[-1]} channels, and the'
        f' model takes {channels}. Convert it.'
      )
    return files.view(pixels, name, self.image_shape, options)

  def tell(self, views: Sequence[View], **options: Any) -> Iterator[Answer]:
    """Says what is in images.

    Args:
      views: of the images, one or more.
      **options: as `view` takes them.

    Yields:
      An answer for each.
    """
    files = self.files
    options = {'resize': False, **options}
    rows = jax.tree.map(lambda *x: np.stack(x), *[dict(v.row) for v in views])
    found = self._batched(self._predict, rows)
    for number, view in enumerate(views):
      one = jax.tree.map(lambda x, number=number: x[number], found)
      yield files.tell(one, view.back, options)

  def panels(self, rows: Rows) -> list[Sequence[Panel]]:
    """Draws examples of a data set with what the model says of them.

    Args:
      rows: of the examples, with all fields of the task.

    Returns:
      The panels of each; none where the task has nothing to draw.
    """
    draw = self._task.draw
    if draw is None or self._task.predict is None:
      return []
    found = jax.tree.map(np.asarray, self._batched(self._predict, rows))
    of = lambda tree, number: jax.tree.map(lambda x: x[number], tree)
    count = len(rows['image'])
    return [draw(of(dict(rows), n), of(found, n)) for n in range(count)]

  def test(self, rows: Rows) -> dict[str, float]:
    """The task's scores on some examples.

    Args:
      rows: of the examples, with all fields of the task.

    Returns:
      The scores by name.
    """
    sums: Any = None
    for part, count in self._parts(rows):
      valid = np.arange(len(part['image'])) < count
      found = self._call(self._sums, part, valid.astype(np.float32))
      found = jax.tree.map(np.float64, found)
      sums = found if sums is None else jax.tree.map(np.add, sums, found)
    return self._task.scores(sums)

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
      spec = stream.image_spec(options, shape, resized=True)
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

  def _batched(self, function: Callable[..., Any], rows: Rows) -> Any:
    """What a function gives for rows, a part of them at a time."""
    found = []
    for part, count in self._parts(rows):
      whole = self._call(function, part)
      cut = functools.partial(lambda count, x: x[:count], count)
      found.append(jax.tree.map(cut, whole))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)

  def _parts(self, rows: Rows) -> Iterator[tuple[Rows, int]]:
    return _parts(rows, min(_BATCH, self.config.test_batch_size))

  def _call(self, function: Callable[..., Any], rows: Rows, *more: Any) -> Any:
    count = len(rows['image'])
    # These fields do not change the image that the network sees, see above.
    filled = {
      'id': np.zeros(count, np.int32),
      **{
        name: np.full((count, *field.shape), field.fill, field.dtype)
        for name, field in self._task.fields.items()
      },
      **rows,
    }
    return jax.device_get(self._jitted[function](*self._arrays, filled, *more))

  def _outputs(self, params: Any, statistics: Any, rows: Rows) -> Predictions:
    batch = self._task.prepare(None, rows)
    if len(batch['image']) != len(rows['image']):
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

  def _predict(self, params: Any, statistics: Any, rows: Rows) -> Any:
    batch = self._task.prepare(None, rows)
    outputs, _ = self._apply(params, statistics, batch['image'], False)
    predict: Any = self._task.predict
    return predict(outputs, batch)

  def _sums(self, params: Any, statistics: Any, rows: Rows, valid: Any) -> Any:
    batch = self._task.prepare(None, rows)
    outputs, _ = self._apply(params, statistics, batch['image'], False)
    return self._task.sums(outputs, batch, valid)


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


def _parts(rows: Rows, most: int) -> Iterator[tuple[Rows, int]]:
  """Rows in parts of few sizes, each of which is compiled once.

  The last part is filled up with its first row.

  Args:
    rows: by name, each with the examples as its first axis.
    most: how many rows a part has at most.

  Yields:
    Each part, and how many of its rows count.
  """
  total = len(rows['image'])
  size = min(most, 1 << (total - 1).bit_length())
  for start in range(0, total, size):
    count = min(size, total - start)
    some = np.resize(np.arange(start, start + count), size)
    some[count:] = start
    yield {name: np.asarray(x)[some] for name, x in rows.items()}, count


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
