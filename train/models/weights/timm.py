"""Weights that others trained: a ViT's, in timm's naming and layout."""

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from train.checks import said

# Our layers by timm's names. Its one product for query, key and value is three
# of ours.
_NAMES = {
  'token': 'cls_token',
  'positions': 'pos_embed',
  'patches': 'patch_embed.proj',
  'norm1': 'norm1',
  'attention.query': 'attn.qkv',
  'attention.key': 'attn.qkv',
  'attention.value': 'attn.qkv',
  'attention.out': 'attn.proj',
  'norm2': 'norm2',
  'fc1': 'mlp.fc1',
  'fc2': 'mlp.fc2',
  'norm': 'norm',
  'representation': 'pre_logits.fc',
  'head': 'head',
}
_THIRDS = {'attention.query': 0, 'attention.key': 1, 'attention.value': 2}


def load_timm_vit(params: Any, path: str | os.PathLike[str]) -> Any:
  """Replaces a ViT's parameters by the weights in a file.

  The file is a ``.safetensors`` file of timm's ``vit_*`` or ``deit_*`` models
  with a class token and without distillation. A head of another number of
  classes is left out: then the one in ``params`` stays.

  Args:
    params: nested dict of the parameters of :class:`train.models.ViT`.
    path: of the file.

  Returns:
    A dict like ``params``, with arrays of the same shapes and dtypes.

  Raises:
    ValueError: if the file cannot be read or does not fit the model.
  """
  if 'patches' not in params:
    raise ValueError(
      f"Cannot load {str(path)!r} into this model: timm's names are known for "
      "a vision transformer only. Create the model 'vit', or leave out "
      'pretrained.'
    )
  tensors = read(path)
  if _shape(tensors, 'head.bias') != params['head']['bias'].shape:
    tensors = {k: v for k, v in tensors.items() if not k.startswith('head.')}
    body = {key: value for key, value in params.items() if key != 'head'}
    return {**_replace(body, tensors, path), 'head': params['head']}
  return _replace(params, tensors, path)


def _replace(params: Any, tensors: Mapping[str, np.ndarray], path: Any) -> Any:
  leaves, structure = jax.tree.flatten_with_path(params)
  rows = [(*_place(keys), leaf) for keys, leaf in leaves]
  shapes = {
    name: _timm_shape(layer, name, leaf.shape) for layer, name, leaf in rows
  }
  missing, unexpected = shapes.keys() - tensors, tensors.keys() - shapes
  if missing or unexpected:
    raise ValueError(
      f'Cannot load {str(path)!r} into this model: it lacks {some(missing)}, '
      f'and the model has no place for {some(unexpected)}. Give a file of '
      "timm's ViT or DeiT with a class token and without distillation, and "
      'create the model with its depth and pool.'
    )
  wrong = {
    f'{name} of shape {tensors[name].shape} where the model has {shape}'
    for name, shape in shapes.items()
    if tensors[name].shape != shape
  }
  if wrong:
    raise ValueError(
      f'Cannot load {str(path)!r} into this model: it has {some(wrong)}. '
      'Create the model with the sizes of the file: its width, its mlp, its '
      'patch, and images as large as it was trained on, because positions are '
      'not resampled.'
    )
  return jax.tree.unflatten(
    structure,
    [_convert(layer, tensors[name], leaf) for layer, name, leaf in rows],
  )


def _place(keys: tuple[Any, ...]) -> tuple[str, str]:
  """Our layer that a parameter belongs to, and timm's name of it."""
  steps = [key.key for key in keys]
  prefix = ''
  if steps[0] == 'blocks':
    prefix = f'blocks.{steps[1]}.'
    steps = steps[2:]
  if len(steps) == 1:  # A parameter by itself, of no layer.
    return steps[0], _NAMES[steps[0]]
  *layers, kind = steps
  layer = '.'.join(layers)
  suffix = 'bias' if kind == 'bias' else 'weight'
  return layer, f'{prefix}{_NAMES[layer]}.{suffix}'


def _timm_shape(
  layer: str, name: str, shape: tuple[int, ...]
) -> tuple[int, ...]:
  parts = 3 if layer in _THIRDS else 1
  if len(shape) == 4:
    rows, columns, channels, width = shape
    return width, channels, rows, columns
  if layer in ('token', 'positions'):
    return shape
  if name.endswith('.bias') or len(shape) == 1:
    return (parts * math.prod(shape),)
  inputs = math.prod(shape[:-1]) if layer == 'attention.out' else shape[0]
  return parts * math.prod(shape) // inputs, inputs


def _convert(layer: str, tensor: np.ndarray, leaf: Any) -> jax.Array:
  if layer in _THIRDS:
    tensor = np.split(tensor, 3)[_THIRDS[layer]]
  if tensor.ndim == 4:
    tensor = tensor.transpose(2, 3, 1, 0)
  elif layer not in ('token', 'positions'):
    tensor = tensor.T  # Ours multiply from the right.
  return jax.numpy.asarray(tensor.reshape(leaf.shape), leaf.dtype)


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads the tensors of a ``.safetensors`` file.

  Args:
    path: of the file.

  Returns:
    The tensors by name.

  Raises:
    ValueError: if it is no such file.
  """
  try:
    return safetensors.numpy.load_file(path)
  except (OSError, safetensors.SafetensorError) as error:
    raise ValueError(
      f'Cannot read the weights {str(path)!r}: {said(error)} Give a '
      '.safetensors file, such as the model.safetensors that timm publishes.'
    ) from error


def _shape(tensors: Mapping[str, np.ndarray], name: str) -> tuple[int, ...]:
  return tensors[name].shape if name in tensors else ()


def some(names: Iterable[str], at_most: int = 6) -> str:
  """Lists names, or the first of them and how many more there are."""
  listed = sorted(names)
  if not listed:
    return 'nothing'
  more = len(listed) - at_most
  shown = ', '.join(listed[:at_most])
  return f'{shown} and {more} more' if more > 0 else shown
