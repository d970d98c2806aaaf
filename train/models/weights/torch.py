"""Weights that others trained: of ResNets and HRNets, in PyTorch's layout."""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from flax import nnx

from train.models.backbones.hrnet import HRNet
from train.models.backbones.resnet import ResNet
from train.models.weights.timm import read, some

_Convert: TypeAlias = Callable[[np.ndarray], np.ndarray]

_BLOCK = {
  'shortcut_conv': 'downsample.0',
  'shortcut_norm': 'downsample.1',
}
# What a file may have beside a backbone: heads, and in files of HRNet trained
# on ImageNet the other branches of the last fusion.
_BESIDE = re.compile(
  r'(fc|classifier|final_layer|incre_modules|downsamp_modules)\..*'
)
_LAST_FUSION = re.compile(r'stage4\.\d+\.fuse_layers\.[123]\..*')


def load_torch(model: nnx.Module, path: str | os.PathLike[str]) -> nnx.Module:
  """Gives a backbone the weights and the running statistics of a file.

  The file is a ``.safetensors`` file with the names of torchvision's or timm's
  ResNets, of PSPNet's code for the stem ``'deep'``, or of timm's HRNets or
  HRNet's code. A head in the file is loaded if the model has one of as many
  classes; else a line on stderr says what is left out, and the model's head
  stays.

  Args:
    model: a :class:`ResNet` or an :class:`HRNet`; changed in place.
    path: of the file.

  Returns:
    The model itself.

  Raises:
    ValueError: if the file cannot be read or does not fit the model.
  """
  named = _NAMES.get(type(model))
  if named is None:
    raise ValueError(
      f'Cannot load {str(path)!r} into a {type(model).__name__}: the names of '
      'its layers in PyTorch are not known. Give a ResNet or an HRNet.'
    )
  tensors = {
    name: tensor
    for name, tensor in read(path).items()
    if not name.endswith('num_batches_tracked')
  }
  wanted: dict[str, tuple[Any, _Convert]] = {}
  for place, layer in nnx.iter_modules(model):
    for suffix, variable, convert in _variables(layer):
      wanted[f'{named(model, place)}.{suffix}'] = variable, convert
  if not _fits_head(tensors, wanted):
    wanted = {k: v for k, v in wanted.items() if not k.startswith('fc.')}
  missing = wanted.keys() - tensors
  extra = {name for name in tensors.keys() - wanted if not _beside(name)}
  if missing or extra:
    raise ValueError(
      f'Cannot load {str(path)!r} into this model: it lacks {some(missing)}, '
      f'and the model has no place for {some(extra)}. Create the model with '
      'the blocks, the stem and the branches of the file.'
    )
  arrays = {name: wanted[name][1](tensors[name]) for name in wanted}
  wrong = {
    f'{name} for {wanted[name][0].shape} where the file has {array.shape}'
    for name, array in arrays.items()
    if array.shape != wanted[name][0].shape
  }
  if wrong:
    raise ValueError(
      f'Cannot load {str(path)!r} into this model: it needs {some(wrong)}. '
      'Create the model with the widths of the file.'
    )
  left_out = tensors.keys() - wanted
  if left_out:
    _say(f'weights: {os.fspath(path)}, without {some(left_out)}')
  # All of it fits: nothing is half loaded.
  for name, array in arrays.items():
    variable = wanted[name][0]
    variable[...] = jnp.asarray(array, variable.dtype)
  return model


@functools.cache  # A run builds its network more than once.
def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def _variables(
  layer: nnx.Module,
) -> Iterator[tuple[str, Any, _Convert]]:
  """PyTorch's suffix, our variable, and how a tensor becomes its array."""
  same = lambda tensor: tensor
  match layer:
    case nnx.Conv():
      yield 'weight', layer.kernel, lambda x: x.transpose(2, 3, 1, 0)
    case nnx.Linear():
      # Ours multiply from the right.
      yield 'weight', layer.kernel, lambda x: x.T
    case nnx.BatchNorm():
      yield 'weight', layer.scale, same
      yield 'running_mean', layer.mean, same
      yield 'running_var', layer.var, same
    case _:
      return
  if layer.bias is not None:
    yield 'bias', layer.bias, same


def _resnet(model: Any, place: tuple[Any, ...]) -> str:
  match place:
    case ('stem_conv',):
      return 'conv1'
    case ('stem_norm',):
      return 'bn1'
    case ('stem_rest', index, kind):
      return f'{"conv" if kind == "conv" else "bn"}{index + 2}'
    case ('blocks', index, name):
      stage = 0
      while index >= model.depths[stage]:
        index -= model.depths[stage]
        stage += 1
      return f'layer{stage + 1}.{index}.{_in_block(name)}'
    case ('head',):
      return 'fc'
    case _:
      raise AssertionError(place)


def _hrnet(model: Any, place: tuple[Any, ...]) -> str:
  del model
  match place:
    case ('stem', index, kind):
      return f'{"conv" if kind == "conv" else "bn"}{index + 1}'
    case ('bottlenecks', index, name):
      return f'layer1.{index}.{_in_block(name)}'
    case ('transitions', stage, branch, _, kind):
      # A new branch is one level deeper; there are as many as stages before.
      new = branch == stage + 1
      inner = '0.' if new else ''
      return f'transition{stage + 1}.{branch}.{inner}{_in_pair(kind)}'
    case ('stages', stage, 'branches', module, branch, index, name):
      block = f'{branch}.{index}.{_in_block(name)}'
      return f'stage{stage + 2}.{module}.branches.{block}'
    case ('stages', stage, 'fusions', module, 'paths', *path):
      target, source, step, kind = path
      inner = f'{step}.' if source < target else ''
      path = f'{target}.{source}.{inner}{_in_pair(kind)}'
      return f'stage{stage + 2}.{module}.fuse_layers.{path}'
    case _:
      raise AssertionError(place)


def _in_block(name: str) -> str:
  return _BLOCK.get(name, name.replace('norm', 'bn'))


def _in_pair(kind: str) -> str:
  return '0' if kind == 'conv' else '1'


_NAMES: dict[type[nnx.Module], Callable[[Any, tuple[Any, ...]], str]] = {
  ResNet: _resnet,
  HRNet: _hrnet,
}


def _fits_head(
  tensors: Mapping[str, np.ndarray], wanted: Mapping[str, Any]
) -> bool:
  name = 'fc.bias'
  if name not in wanted or name not in tensors:
    return False
  return tensors[name].shape == wanted[name][0].shape


def _beside(name: str) -> bool:
  return bool(_BESIDE.fullmatch(name) or _LAST_FUSION.fullmatch(name))
