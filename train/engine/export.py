"""The folder of a trained model: all that is needed to use it.

`model.safetensors` has the arrays by flat names: `params.` those of the
network, `statistics.` what else it holds, such as BatchNorm's; both averaged
where the run averages. `model.json` has the config and what is known of the
data set: the shape of an image, how to normalise, the classes. It is written
last and has a checksum of the arrays, so that both are of one run or none.
"""

import io
import json
import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
import safetensors.numpy

from train import config as train_config
from train.checks import Config
from train.engine.network import Described
from train.engine.step import Step, TrainState
from train.models.weights import saved
from train.models.weights.saved import ARRAYS, FACTS
from train.parallel import devices, processes

# What a method keeps of each example, in the folder of a run.
EXAMPLES = 'examples.npz'


class Exported(NamedTuple):
  """A model as its folder has it.

  Attributes:
    config: of its run, with the defaults of keys that it is older than.
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
  flat = {}
  for prefix, tree in state.tested._asdict().items():
    flat |= saved.flat(prefix, tree)
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
    'averaged': state.average is not None,
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
  facts, arrays = saved.read(folder)
  try:
    height, width, channels = facts['image_shape']
    return Exported(
      train_config.from_saved(facts['config']),
      Described(
        (height, width, channels),
        tuple(facts['fields']),
        facts['facts'],
        *(x and tuple(x) for x in (facts['mean'], facts['std'])),
      ),
      arrays,
    )
  except (ValueError, KeyError, TypeError) as error:
    raise saved.broken(saved.find(folder), error) from error


def write_examples(folder: pathlib.Path, step: Step, state: TrainState) -> None:
  """Writes the numbers that a method keeps of each training example, if any.

  Args:
    folder: of the run.
    step: of the run.
    state: its training state.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(state.method)
  tables = {
    str(getattr(path[-1], 'name', path[-1])): leaf
    for path, leaf in leaves
    if leaf.shape == (step.num_examples,) and not devices.is_key(leaf)
  }
  tables = devices.readable(tables)
  if tables and processes.is_primary():
    content = io.BytesIO()
    np.savez_compressed(content, **jax.device_get(tables))
    _replace(folder / EXAMPLES, content.getvalue())


def read_examples(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads them: by name, a number for each example; none for most methods."""
  if not (folder / EXAMPLES).exists():
    return {}
  with np.load(folder / EXAMPLES) as arrays:
    return dict(arrays)


def _replace(path: pathlib.Path, content: bytes) -> None:
  """Writes a file that is there whole or not at all."""
  part = path.with_name(path.name + '.part')
  part.write_bytes(content)
  os.replace(part, path)
