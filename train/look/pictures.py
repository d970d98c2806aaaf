"""The pictures of trained networks, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from train.look.measures import Landscape, Radii, Spectrum
from train.report.curves import pyplot

_CELL, _GAP, _CAPTION = 56, 4, 12  # pixels, of a contact sheet


def landscapes(found: Mapping[str, Landscape]) -> Any:
  """A contour map for each network, in the same colors, and a cut."""
  count = len(found)
  figure, axes = pyplot().subplots(
    1,
    count + 1,
    figsize=(4.2 * (count + 1), 3.8),
    squeeze=False,
    layout='constrained',
  )
  every = np.concatenate([one.losses.ravel() for one in found.values()])
  low = max(every.min(), 1e-6 * every.max(), 1e-12)
  levels = np.geomspace(low, max(every.max(), low * 1.01), 24)
  cut = axes[0][-1]
  for axis, (name, one) in zip(axes[0], found.items(), strict=False):
    shown = axis.contourf(
      one.offsets,
      one.offsets,
      np.clip(one.losses.T, low, None),
      levels=levels,
      norm='log',
      cmap='viridis',
    )
    axis.plot(0, 0, 'w+')
    axis.set(title=name, xlabel='first direction', ylabel='second direction')
    axis.set_aspect('equal')
    middle = len(one.offsets) // 2
    cut.plot(one.offsets, one.losses[:, middle], label=name)
    if axis is axes[0][-2]:
      bar = figure.colorbar(shown, ax=axis)
      ticks = levels[::5]
      bar.set_ticks(ticks, labels=[f'{tick:.2g}' for tick in ticks])
      bar.minorticks_off()
  cut.set(xlabel='first direction', ylabel='loss', title='Along the first')
  cut.grid(alpha=0.3)
  cut.legend()
  return figure


def spectra(found: Mapping[str, Spectrum]) -> Any:
  """The densities of the eigenvalues, on one pair of axes."""
  figure, axis = pyplot().subplots(figsize=(7, 4), layout='constrained')
  ends = [
    end for one in found.values() for end in (one.values.min(), one.top[0])
  ]
  low, high = min(ends), max(ends)
  room = 0.05 * (high - low) or 1.0
  x = np.linspace(low - room, high + room, 600)
  width = (x[-1] - x[0]) / 150
  for number, (name, one) in enumerate(found.items()):
    bumps = np.exp(-(((x[:, None, None] - one.values) / width) ** 2) / 2)
    density = (bumps * one.weights).sum(-1).mean(-1) / (width * 2.5066)
    axis.semilogy(x, np.maximum(density, 1e-9), color=f'C{number}', label=name)
    axis.plot(one.top, np.full(len(one.top), 2e-7), '|', color=f'C{number}')
  axis.set(
    xlabel='eigenvalue of the Hessian', ylabel='density', ylim=(1e-7, None)
  )
  axis.grid(alpha=0.3)
  axis.legend()
  return figure


def rises(found: Mapping[str, Radii]) -> Any:
  """How far the loss rises within a distance, three ways."""
  panels = {
    'ascent': 'One step along the gradient',
    'worst': 'Several steps of ascent',
    'random': 'Random direction',
  }
  figure, axes = _panels(len(panels))
  for axis, (field, title) in zip(axes, panels.items(), strict=True):
    for name, one in found.items():
      axis.plot(one.radii, getattr(one, field), '-o', ms=3, label=name)
    axis.set(xlabel='distance', ylabel='rise of the loss', title=title)
    axis.legend()
  return figure


def along_the_gradient(
  found: Mapping[str, Radii], gammas: Sequence[float]
) -> Any:
  """Cosine and loss over the distance, with and without noise."""
  figure, axes = pyplot().subplots(
    len(found),
    2,
    figsize=(9.2, 3.6 * len(found)),
    squeeze=False,
    layout='constrained',
  )
  for pair, (name, one) in zip(axes, found.items(), strict=True):
    for axis, plain, noisy, what in (
      (pair[0], one.cosine, one.noisy_cosine, 'cosine of the two gradients'),
      (pair[1], one.ascent, one.noisy_ascent, 'rise of the loss'),
    ):
      axis.plot(one.radii, plain, '-o', ms=3, color='black', label='no noise')
      for gamma, line in zip(gammas, noisy, strict=True):
        axis.plot(one.radii, line, '-o', ms=3, label=f'noise {gamma:.3g}')
      axis.set(xlabel='distance', ylabel=what, title=name)
      axis.grid(alpha=0.3)
      axis.legend()
  return figure


def contact_sheet(
  images: np.ndarray, captions: Sequence[str], marked: Sequence[bool]
) -> Image.Image:
  """Draws images in rows of 8 with a caption each; some have a red frame."""
  columns = 8
  rows = -(-len(images) // columns)
  width, height = _CELL + 2 * _GAP, _CELL + 2 * _GAP + _CAPTION
  sheet = Image.new('RGB', (columns * width, rows * height), 'white')
  text = ImageDraw.Draw(sheet)
  for number, (image, caption, mark) in enumerate(
    zip(images, captions, marked, strict=True)
  ):
    x, y = number % columns * width, number // columns * height
    if mark:
      text.rectangle(
        (x, y, x + width - 1, y + _CELL + 2 * _GAP - 1), fill='red'
      )
    cell = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    cell = cell.resize((_CELL, _CELL), Image.Resampling.NEAREST)
    sheet.paste(cell, (x + _GAP, y + _GAP))
    text.text((x + _GAP, y + _CELL + 2 * _GAP), caption, fill='black')
  return sheet


def _panels(count: int) -> tuple[Any, Any]:
  figure, axes = pyplot().subplots(
    1, count, figsize=(4.6 * count, 3.8), squeeze=False, layout='constrained'
  )
  for axis in axes[0]:
    axis.grid(alpha=0.3)
  return figure, axes[0]
