"""PyTorch on the same network: its SGD, and SAM from pytorch-optimizer.

The networks are transcriptions of `train/models`. A step gathers, crops, flips
and normalises its batch as ours does. It runs eagerly, and each optimizer is
called as its documentation shows.
"""

import importlib.util
import math
import os
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.program import draw_ids
from train.data import memory

_INSTALL = "python -m pip install '.[peers]'"
# Classes of pytorch_optimizer by row; None for SGD of torch itself.
_CLASSES = {
  'torch-sgd': None,
  'torch-sam': 'SAM',
  'torch-friendlysam': 'FriendlySAM',
  'torch-looksam': 'LookSAM',
}
_SGD = {'lr': 0.01, 'momentum': 0.9, 'weight_decay': 5e-4}


def missing(model: Mapping[str, Any]) -> str | None:
  """Why a table has no rows of PyTorch; None if it has them."""
  for module in ('torch', 'pytorch_optimizer'):
    if importlib.util.find_spec(module) is None:
      return (
        f'Without rows of PyTorch: {module} is not installed. Install it with '
        f'{_INSTALL}.'
      )
  if model['name'] not in _NETWORKS:
    return (
      f'Without rows of PyTorch: {model["name"]} is not transcribed. '
      f'{", ".join(_NETWORKS)} are.'
    )
  return None


def rows(
  model: Mapping[str, Any], dataset: memory.Dataset, batch: int
) -> dict[str, 'PeerRow']:
  """The rows of PyTorch, its SGD first."""
  return {
    name: PeerRow(kind, model, dataset, batch)
    for name, kind in _CLASSES.items()
  }


class PeerRow:
  """A step of PyTorch that takes turns with ours.

  Args:
    kind: a class of pytorch_optimizer; None for `torch.optim.SGD`.
    model: the model section of the config.
    dataset: the set that batches are drawn from.
    batch: images in a batch.
  """

  forwards = 0.0

  def __init__(
    self,
    kind: str | None,
    model: Mapping[str, Any],
    dataset: memory.Dataset,
    batch: int,
  ):
    import pytorch_optimizer
    import torch

    # As many threads as XLA has.
    torch.set_num_threads(_threads())
    torch.manual_seed(0)
    self._torch = torch
    on_gpu = jax.default_backend() == 'gpu' and torch.cuda.is_available()
    self._device = torch.device('cuda' if on_gpu else 'cpu')
    options = {key: value for key, value in model.items() if key != 'name'}
    dtype = options.pop('dtype', None)
    self._dtype = None if dtype is None else getattr(torch, str(dtype))
    build = _NETWORKS[model['name']]
    shape = dataset.train['image'].shape[1:]
    self._network = build(
      torch.nn, dataset.facts['num_classes'], shape, **options
    )
    self._network.to(self._device).train()
    images = np.ascontiguousarray(dataset.train['image'].transpose(0, 3, 1, 2))
    self._images = torch.from_numpy(images).to(self._device)
    labels = torch.from_numpy(np.array(dataset.train['label'], np.int64))
    self._labels = labels.to(self._device)
    self._ids = draw_ids(len(images), batch)
    self._sgd_alone = kind is None
    parameters = self._network.parameters()
    if kind is None:
      self._optimizer = torch.optim.SGD(parameters, **_SGD)
    else:
      optimizer = getattr(pytorch_optimizer, kind)
      self._optimizer = optimizer(parameters, torch.optim.SGD, **_SGD)
    self.gradients = 0.0

  def warm_up(self, steps: int = 3) -> None:
    """Runs a few steps, so that memory and threads are allocated."""
    self.turn(steps)

  def turn(self, steps: int) -> float:
    """Runs a turn; returns its seconds."""
    batches = [next(self._ids) for _ in range(steps)]
    self._wait()
    start = time.perf_counter()
    for ids in batches:
      self._step(self._torch.from_numpy(ids).long().to(self._device))
    self._wait()
    return time.perf_counter() - start

  def _step(self, ids) -> None:
    torch = self._torch
    images, labels = self._augment(self._images[ids]), self._labels[ids]

    def closure():
      self.gradients += 1
      self._optimizer.zero_grad()
      with torch.autocast(
        self._device.type, self._dtype, enabled=self._dtype is not None
      ):
        logits = self._network(images)
      loss = torch.nn.functional.cross_entropy(logits.float(), labels)
      loss.backward()
      return loss

    closure()
    if self._sgd_alone:
      self._optimizer.step()
    else:
      self._optimizer.step(closure)

  def _augment(self, images):
    """Crops and flips in one gather, then normalises."""
    torch, pad = self._torch, 4
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (pad, pad, pad, pad))
    offsets = torch.randint(0, 2 * pad + 1, (2, count, 1), device=self._device)
    rows = offsets[0] + torch.arange(height, device=self._device)
    columns = torch.arange(width, device=self._device).expand(count, width)
    flip = torch.rand(count, 1, device=self._device) < 0.5
    columns = offsets[1] + torch.where(flip, width - 1 - columns, columns)
    every = torch.arange(count, device=self._device)[:, None, None]
    # Indices on both sides of the channels move them to the last axis.
    crops = padded[every, :, rows[:, :, None], columns[:, None, :]]
    return (crops.permute(0, 3, 1, 2).float() - 127.5) / 73.9

  def _wait(self) -> None:
    if self._device.type == 'cuda':
      self._torch.cuda.synchronize()


def _threads() -> int:
  return int(os.environ.get('NPROC', len(os.sched_getaffinity(0))))


def _mlp(nn, num_classes, image_shape, hidden=(128, 128)):
  sizes = (math.prod(image_shape), *hidden)
  layers = [nn.Flatten()]
  for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
    layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
  return nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))


def _resnet(
  nn, num_classes, image_shape, widths=(16, 32, 64), blocks=(1, 1, 1)
):
  def convolution(fan_in, fan_out, size, stride=1):
    return (
      nn.Conv2d(fan_in, fan_out, size, stride, size // 2, bias=False),
      nn.BatchNorm2d(fan_out),
    )

  class Block(nn.Module):
    def __init__(self, fan_in, width, stride):
      super().__init__()
      self.body = nn.Sequential(
        *convolution(fan_in, width, 3, stride),
        nn.ReLU(),
        *convolution(width, width, 3),
      )
      projects = stride != 1 or fan_in != width
      shortcut = convolution(fan_in, width, 1, stride) if projects else ()
      self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x):
      return nn.functional.relu(self.body(x) + self.shortcut(x))

  layers = [*convolution(image_shape[-1], widths[0], 3), nn.ReLU()]
  fan_in = widths[0]
  for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
    for index in range(depth):
      stride = 2 if stage > 0 and index == 0 else 1
      layers.append(Block(fan_in, width, stride))
      fan_in = width
  head = nn.Linear(fan_in, num_classes)
  return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


_NETWORKS = {'mlp': _mlp, 'resnet': _resnet}
