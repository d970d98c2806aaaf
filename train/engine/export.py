"""The folder of a trained model: all that is needed to use it.

`model.safetensors` has the arrays by flat names: `params.` those of the network
(the averaged ones where the run averages), `statistics.` what else it holds,
such as BatchNorm's. `model.json` has the config and what is known of the data
set: the shape of an image, how to normalise, the classes. It is written last
and has a checksum of the arrays, so that both are of one run or none.
"""

import json
import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
import safetensors
import safetensors.numpy

from train.checks import Config, DataError
from train.engine.network import Described
from train.engine.step import Step, TrainState
from train.parallel import devices, processes

ARRAYS, FACTS = 'model.safetensors', 'model.json'


class Exported(NamedTuple):
  """A model as its folder has it.

  Attributes:
    config: of its run.
    described: what is known of the data set that it was trained on.
    arrays: by their flat names.
  """

  config: Config
  described: Described
  arrays: Mapping[str, np.ndarray]


def write(
  folder: pathlib.Path, config: Config, step: Step, state: TrainState
) -> None:
  """Writes the folder of a trained model; of several processes the first does.

  Args:
    folder: where to, which need not exist.
    config: of the run.
    step: of the run.
    state: its training state.
  """
  average = state.average
  params = state.params if average is None else average
  trees = {'params': params, 'statistics': state.statistics}
  flat = {}
  for prefix, tree in trees.items():
    flat |= _flat(prefix, tree)
  flat = devices.readable(flat)
  if not processes.is_primary():
    return
  # In row-major order, which safetensors takes for granted.
  arrays = {
    name: np.array(array, order='C')
    for name, array in jax.device_get(flat).items()
  }
  content = safetensors.numpy.save(arrays)
  facts = {
    'task': config.task,
    'averaged': average is not None,
    **step.described._asdict(),
    'checksum': zlib.crc32(content),
    'config': json.loads(config.to_json_best_effort()),
  }
  text = json.dumps(facts, indent=2, default=lambda x: np.asarray(x).tolist())
  folder.mkdir(parents=True, exist_ok=True)
  _replace(folder / ARRAYS, content)
  _replace(folder / FACTS, f'{text}\n'.encode())


def read(folder: pathlib.Path) -> Exported:
  """Reads the folder of a trained model.

  Args:
    folder: that of a finished run, or the folder `model` in it.

  Returns:
    The model.

  Raises:
    DataError: if there is none, or it is not whole.
  """
  folder = _find(folder)
  try:
    facts = json.loads((folder / FACTS).read_text())
    content = (folder / ARRAYS).read_bytes()
    if zlib.crc32(content) != facts['checksum']:
      raise ValueError(f'{ARRAYS} is not the one that {FACTS} was written for')
    height, width, channels = facts['image_shape']
    return Exported(
      ml_collections.ConfigDict(facts['config']),
      Described(
        (height, width, channels),
        tuple(facts['fields']),
        facts['facts'],
        *(x and tuple(x) for x in (facts['mean'], facts['std'])),
      ),
      safetensors.numpy.load(content),
    )
  except (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    safetensors.SafetensorError,
  ) as error:
    raise DataError(
      f'Cannot use the model in {folder}. It is not whole:'
      f' {type(error).__name__}, {error}. Copy the folder again, or train again'
      ' in a new workdir.'
    ) from error


def fill(prefix: str, tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
  """A tree with the arrays that were saved of it.

  Args:
    prefix: of the arrays' names.
    tree: of their shapes. Its keys, which are not saved, stay.
    arrays: by their names.

  Returns:
    The tree.

  Raises:
    DataError: if an array is missing, is one too many, or has another shape.
  """
  wanted = {name: leaf.shape for name, leaf in _flat(prefix, tree).items()}
  found = {
    name: array.shape
    for name, array in arrays.items()
    if name.startswith(f'{prefix}.')
  }
  wrong = sorted(
    name for name in {*wanted, *found} if wanted.get(name) != found.get(name)
  )
  if wrong:
    name = wrong[0]
    raise DataError(
      f'Cannot use the model. Of its arrays {len(wrong)} are not those of its'
      f' network: {name} has the shape {found.get(name)} in the file and'
      f' {wanted.get(name)} in the network. Use the version of this program'
      ' that it was trained with.'
    )
  leaf = lambda path, leaf: arrays.get(_name(prefix, path), leaf)
  return jax.tree.map_with_path(leaf, tree)


def _find(folder: pathlib.Path) -> pathlib.Path:
  for place in (folder / 'model', folder):
    if (place / FACTS).is_file():
      return place
  if not folder.is_dir():
    raise DataError(
      f'Given workdir={folder}. There is no such folder. Give that of a'
      ' finished run, or the folder `model` that a run leaves in it.'
    )
  raise DataError(
    f'Given workdir={folder}. It holds no model/{FACTS}, which a run'
    ' writes when it is finished. Give the folder of a finished run, or run the'
    ' command that began this one again to finish it.'
  )


def _flat(prefix: str, tree: Any) -> dict[str, Any]:
  """The arrays of a tree by name, but for the keys of random streams."""
  leaves, _ = jax.tree.flatten_with_path(tree)
  return {
    _name(prefix, path): leaf
    for path, leaf in leaves
    if not devices.is_key(leaf)
  }


def _name(prefix: str, path: Any) -> str:
  return '.'.join([prefix, *(str(key.key) for key in path)])


def _replace(path: pathlib.Path, content: bytes) -> None:
  """Writes a file that is there whole or not at all."""
  part = path.with_name(path.name + '.part')
  part.write_bytes(content)
  os.replace(part, path)
