"""Measures trained networks and writes the page."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from train.look import examples, measures, page, pictures
from train.look.page import Section
from train.look.trained import Trained
from train.report import curves, figures
from train.report.results import SavedRun, main_of

# What may be in a log and is worth a picture, see train/engine/measure.py too.
_LOGGED = (
  *('gradient_norm', 'psf_norm', 'gradient_cosine', 'direction_norm'),
  *('ratio', 'chosen_cosine', 'chosen_loss_difference'),
)


class Options(NamedTuple):
  """How much is measured; see the flags of the command."""

  points: int = 15
  iterations: int = 20
  radii: Sequence[float] = (0.05,)
  noise: Sequence[float] = ()
  seed: int = 0


def write(
  found: Sequence[SavedRun],
  networks: Sequence[Trained],
  options: Options,
  folder: pathlib.Path,
) -> pathlib.Path:
  """Measures, draws and writes.

  Args:
    found: the runs.
    networks: of the runs, in the same order.
    options: how much is measured.
    folder: where the files go.

  Returns:
    The page.
  """
  seed = options.seed
  landscapes, spectra, radii = {}, {}, {}
  for one in networks:
    landscapes[one.name] = measures.landscape(
      one.loss_fn, one.params, options.points, seed=seed
    )
    spectra[one.name] = measures.spectrum(
      one.loss_fn, one.params, options.iterations, seed=seed
    )
    radii[one.name] = measures.radii(
      one.loss_fn, one.params, options.radii, options.noise, seed=seed
    )
  save = lambda picture, name: [page.save(picture, folder / f'{name}.png')]
  sections = [
    Section(
      'Loss landscape',
      'The loss on some training examples at the parameters (the cross) plus'
      ' two random directions, each kernel of which is as long as that of the'
      ' network. The colors are logarithmic and the same for all networks.',
      save(pictures.landscapes(landscapes), 'landscape'),
    ),
    Section(
      'Spectrum of the Hessian',
      "The density of its eigenvalues, by Lanczos' iteration from random"
      ' vectors. The marks at the bottom are the largest that were found.',
      save(pictures.spectra(spectra), 'spectrum'),
    ),
    Section(
      'Sharpness',
      'How far the loss rises at a distance from the parameters: after one step'
      ' along the gradient, as SAM perturbs; after several steps of ascent,'
      ' nearer to the worst case; and on average in random directions.',
      save(pictures.rises(radii), 'sharpness'),
    ),
  ]
  if options.noise:
    sections.append(
      Section(
        'Along the gradient, with noise on the weights',
        'The cosine between the gradient at a point and the one at a distance'
        ' along it, without and with Gaussian noise on the kernels; and the'
        ' rise of the loss at a distance from the parameters along either'
        ' gradient.',
        save(pictures.along_the_gradient(radii, options.noise), 'gradient'),
      )
    )
  sections += _logged(found, networks, folder)
  sections += _examples(networks, folder)
  sections += _curves(found, networks, folder)
  head, body = _table(found, networks, spectra, radii)
  title = ' and '.join(one.name for one in networks)
  return page.write(folder, f'A look at {title}', head, body, sections)


def _logged(found, networks, folder) -> list[Section]:
  """The norms over the steps, as far as the runs have logged any."""
  known = set()
  for run in found:
    known.update(*curves.records(run.folder))
  renamed = [
    run._replace(variant=one.name, overrides='')
    for run, one in zip(found, networks, strict=True)
  ]
  names = [name for name in _LOGGED if name in known]
  lines = {
    name: moving
    for name, runs in figures.over_steps(renamed, names).items()
    # A method that never perturbs logs zeros.
    if (moving := {k: v for k, v in runs.items() if np.any(v[0][1])})
  }
  if not lines:
    return []
  figure = figures.draw_over_steps(lines, '')
  text = (
    'As logged during training, each point the mean over some steps. Train with'
    ' --config.measure_every=N to have the norms of the gradient and of its'
    ' change under the perturbation (psf_norm) for any method.'
  )
  return [Section('Norms', text, [page.save(figure, folder / 'norms.png')])]


def _examples(networks, folder) -> list[Section]:
  """The examples at the ends of what a method keeps of each."""
  sections = []
  for number, one in enumerate(networks):
    for found in examples.ends(one):
      names = [
        page.save(sheet, folder / f'examples{number}-{found.name}-{end}.png')
        for end, sheet in found.sheets.items()
      ]
      text = (
        f'Training examples with the most (above) and the least {found.name},'
        ' which the method keeps of each example. Captions are the label in the'
        ' data set and the number.'
      )
      if found.shares:
        share = {end: f'{value:.0%}' for end, value in found.shares.items()}
        text += (
          ' A red frame is a label that was changed for training: so were'
          f' {share["all"]} of all, {share["most"]} of the tenth with the most,'
          f' and {share["least"]} of the tenth with the least.'
        )
      title = f'Examples of {one.name} by {found.name}'
      sections.append(Section(title, text, names))
  return sections


def _curves(found, networks, folder) -> list[Section]:
  groups = {
    one.name: [curves.read(run.folder)]
    for run, one in zip(found, networks, strict=True)
  }
  path = folder / 'curves.png'
  if not curves.picture(groups, main_of(found), '', path):
    return []
  return [
    Section('Curves', 'The scores and the loss in training.', [path.name])
  ]


def _table(found, networks, spectra, radii):
  main = main_of(found)
  some = list(range(0, len(radii[networks[0].name].radii), 2))
  head = [
    'run',
    f'test {main.name}',
    'loss here',
    'largest eigenvalue',
    'trace',
    *(f'rise at {radii[networks[0].name].radii[i]:g}' for i in some),
  ]
  body = []
  for run, one in zip(found, networks, strict=True):
    score = (run.result or {}).get(f'test_{main.name}')
    body.append(
      [
        one.name,
        '-' if score is None else main.text(score),
        f'{float(one.loss_fn(one.params)):.4g}',
        f'{spectra[one.name].top[0]:.4g}',
        f'{spectra[one.name].trace:.4g}',
        *(f'{radii[one.name].ascent[i]:.3g}' for i in some),
      ]
    )
  return head, body
