"""The folder of a model that the program trained, and its arrays by name.

`model.safetensors` has the arrays by flat names: `params.` those of the network
and `statistics.` what else it holds. `model.json` says what they are of, see
`train/engine/export.py`, and has a checksum of them.
"""

import json
import os
import pathlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from train.checks import DataError, said

ARRAYS, FACTS = 'model.safetensors', 'model.json'


def read(
  folder: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Reads the folder of a trained model.

  Args:
    folder: of a finished run, or the folder `model` in it.

  Returns:
    What `model.json` says, and the arrays by name.

  Raises:
    DataError: if there is none, or it is not whole.
  """
  place = find(pathlib.Path(folder).expanduser())
  try:
    facts = json.loads((place / FACTS).read_text())
    content = (place / ARRAYS).read_bytes()
    if zlib.crc32(content) != facts['checksum']:
      raise ValueError(f'{ARRAYS} is not the one that {FACTS} was written for')
    return facts, safetensors.numpy.load(content)
  except (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    safetensors.SafetensorError,
  ) as error:
    raise broken(place, error) from error


def broken(folder: pathlib.Path, error: Exception) -> DataError:
  """The error of a folder whose files are not what they should be."""
  return DataError(
    f'Cannot use the model in {folder}. It is not whole:'
    f' {type(error).__name__}, {said(error)} Copy the folder again, or'
    ' train again in a new workdir.'
  )


def find(folder: pathlib.Path) -> pathlib.Path:
  """The folder of the model in the folder of a run, or itself.

  Raises:
    DataError: if there is none.
  """
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


def load_run(
  model: nnx.Module,
  folder: str | os.PathLike[str],
  own: Callable[[str], bool] = lambda name: False,
) -> nnx.Module:
  """Gives a model the arrays that a run left, BatchNorm's statistics too.

  Args:
    model: of the run's architecture; changed in place.
    folder: of the finished run, or the folder `model` in it.
    own: flat name -> whether the array is the model's own, which the run lacks.

  Returns:
    The model itself.

  Raises:
    DataError: if the folder holds no whole model, or one of another network.
  """
  _, arrays = read(folder)
  states = nnx.split(model, nnx.Param, ...)[1:]
  for prefix, state in zip(('params', 'statistics'), states, strict=True):
    tree = nnx.to_pure_dict(state)
    kept = {name: x for name, x in flat(prefix, tree).items() if own(name)}
    try:
      filled = fill(prefix, tree, {**arrays, **kept})
    except DataError as error:
      raise DataError(
        f'Given pretrained={os.fspath(folder)!r}. {error}'
      ) from error
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, filled))
    nnx.update(model, state)
  return model


def fill(prefix: str, tree: Any, arrays: Mapping[str, Any]) -> Any:
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
  wanted = {name: leaf.shape for name, leaf in flat(prefix, tree).items()}
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
      f' {wanted.get(name)} in the network. Use the network, and the version of'
      ' this program, that it was trained with.'
    )
  leaf = lambda path, leaf: arrays.get(_name(prefix, path), leaf)
  return jax.tree.map_with_path(leaf, tree)


def flat(prefix: str, tree: Any) -> dict[str, Any]:
  """The arrays of a tree by name, but for the keys of random streams."""
  leaves, _ = jax.tree.flatten_with_path(tree)
  return {
    _name(prefix, path): leaf
    for path, leaf in leaves
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  }


def _name(prefix: str, path: Any) -> str:
  return '.'.join([prefix, *(str(key.key) for key in path)])
