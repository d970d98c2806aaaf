"""Four methods on quantised networks, from one float network."""

import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from train import run, variants
from train.models.weights import saved
from train.report import curves
from train.tasks import Score
from train.tools.demos.demo import Demo, Groups

_CONFIG = 'configs.digits_quantized'
# Of the weights, for each code.
_BINS = 8


def _train_float(workdir: pathlib.Path) -> Sequence[str]:
  """Trains the float network, and names its folder to the runs."""
  folder = workdir / 'float'
  shutil.rmtree(folder, ignore_errors=True)
  config = variants.load(f'{_CONFIG}:float', ['--config.checkpoint.every=0'])
  result = run.run(config, folder, bar=False)
  score = result.main.text(result.scores[result.main.name])
  print(f'  the float network   {score}', flush=True)
  return (f'--config.model.pretrained={folder}',)


def _picture(
  groups: Groups, main: Score, title: str, path: pathlib.Path
) -> None:
  """Draws the scores, the flipped codes, and the weights over their steps."""
  groups = {
    label: [run for run in group if run.result is not None]
    for label, group in groups.items()
  }
  groups = {label: group for label, group in groups.items() if group}
  plt = curves.pyplot()
  figure, axes = plt.subplots(1, 3, figsize=(16, 4.4), layout='constrained')
  for label, group in groups.items():
    tests = [curves.read(run.folder).tests for run in group]
    for axis, name in zip(axes, (main.name, 'flipped_codes'), strict=False):
      values = np.mean([test[f'test_{name}'] for test in tests], axis=0)
      axis.plot(tests[0]['step'], 100 * values, label=label, linewidth=2)
  axes[0].set(
    ylabel=curves.axis_label(main),
    title=f'Test {main.name}: mean over the seeds',
  )
  axes[1].set(
    ylabel='flipped codes, % of the weights',
    title='Codes that a SAM step would change: mean over the seeds',
  )
  for axis in axes[:2]:
    axis.set(xlabel='step')
    axis.grid(alpha=0.3)
  for number, (label, group) in enumerate(groups.items()):
    _draw_weights(axes[2], group[0].folder, label, f'C{number}')
  axes[2].set(
    xlabel='weight / step',
    ylabel='number of weights',
    title='Weights of the largest layer (lines: borders of rounding)',
  )
  # Where it covers no line.
  handles, labels = axes[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside lower center', ncols=len(labels))
  figure.suptitle(title)
  figure.savefig(path, dpi=150)
  plt.close(figure)


def _draw_weights(
  axis: Any, folder: pathlib.Path, label: str, color: str
) -> None:
  """Draws the weights of the largest layer, of one seed."""
  facts, arrays = saved.read(folder)
  low = -(2 ** (facts['config']['model']['quantize']['weights'] - 1))
  high = -low - 1
  suffix = '.promote_dtype.weight_step'
  layers = [
    name.removesuffix(suffix)
    for name in sorted(arrays)
    if name.endswith(suffix) and '.blocks.' in name
  ]
  layer = max(layers, key=lambda name: arrays[f'{name}.kernel'].size)
  step = np.abs(arrays[layer + suffix])
  weights = arrays[f'{layer}.kernel'].ravel() / step
  first, last = low - 0.5, high + 0.5
  count, borders = np.histogram(
    np.clip(weights, first, last), _BINS * (high - low + 1), (first, last)
  )
  axis.stairs(count, borders, color=color, label=label)
  for code in range(low, high):
    axis.axvline(code + 0.5, color='gray', linewidth=0.6)


QUANTISATION = Demo(
  config=_CONFIG, seeds=2, prepare=_train_float, picture=_picture
)
