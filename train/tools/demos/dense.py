"""Methods on a few photographs: masks, and joints of people."""

import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from train.data.open import open_set
from train.engine import predictor
from train.report.results import SavedRun
from train.tasks import Panel, Rows, Score, pictures
from train.tools.demos.demo import Demo, Groups

# Examples in the picture, of the training set and of the test set.
_TRAINED, _TESTED = 2, 4


def _first(groups: Groups) -> Iterator[tuple[str, SavedRun]]:
  """The first finished run of each label."""
  for label, group in groups.items():
    done = [run for run in group if run.result is not None]
    if done:
      yield label, done[0]


def _draw(groups: Groups, main: Score, title: str, path: pathlib.Path) -> None:
  """Draws what each method predicts for images of both splits."""
  del main, title
  examples: list[list[Panel]] = []
  for label, run in _first(groups):
    model = predictor.load(run.folder)
    dataset = open_set(model.config.data)
    splits = (
      ('trained on', dataset.train, dataset.num_examples, _TRAINED),
      ('test', dataset.test, dataset.num_tested, _TESTED),
    )
    drawn = [
      (split, panels)
      for split, rows, total, count in splits
      for panels in model.panels(_some(rows, total, count))
    ]
    if not examples:
      examples = [
        [panel._replace(text=f'{split}: {panel.text}') for panel in panels[:-1]]
        for split, panels in drawn
      ]
    for row, (_, panels) in zip(examples, drawn, strict=True):
      row.append(panels[-1]._replace(text=f'{label} {panels[-1].text}'))
  if examples:
    _save(pictures.sheet(examples), path)


def _some(split: Any, total: int, count: int) -> Rows:
  """So many examples of a split, evenly over all."""
  places = np.linspace(0, total - 1, min(count, total)).round().astype(int)
  if isinstance(split, Mapping):
    return {name: x[places] for name, x in split.items()}
  return split(places)  # which is read from disk


def _save(picture: np.ndarray, path: pathlib.Path) -> None:
  from PIL import Image

  Image.fromarray(picture).save(path, 'PNG')


_MASKS = (
  '32 images do not show a network what 20 classes look like, whatever the'
  ' method: it learns some of its training images by heart. So the test scores'
  ' do not rank the methods. They show that masks are read, trained on and'
  ' predicted, and what a step of each method costs.'
)
_JOINTS = (
  '22 people do not show a network where joints are, whatever the method: it'
  ' learns some of its training images by heart. So the test scores, of 7'
  ' people, do not rank the methods; one joint more or less is more than 1 %.'
  ' Heads have no label in these photographs. A'
  ' share of the box of the person stands in for them, so that the score is no'
  ' PCKh and compares with nothing published. It shows that people are read,'
  ' trained on and predicted, and what a step of each method costs.'
)


def _compare(groups: Groups, main: Score) -> Iterator[str]:
  """A sentence for each method: its scores on both splits, of one seed."""
  for label, run in _first(groups):
    model = predictor.load(run.folder)
    dataset = open_set(model.config.data)
    splits = (
      (dataset.train, dataset.num_examples),
      (dataset.test, dataset.num_tested),
    )
    train, test = (
      main.text(model.test(_some(rows, total, total))[main.name], 1)
      for rows, total in splits
    )
    yield (
      f'{label}: {main.name} {train} on the {dataset.num_examples} images that'
      f' it was trained on, {test} on the {dataset.num_tested} others.'
    )


def _say_masks(groups: Groups, main: Score) -> Sequence[str]:
  background = main.text(_background(groups), 1)
  return [
    *_compare(groups, main),
    f'Background everywhere: {background} on those others.',
    _MASKS,
  ]


def _background(groups: Groups) -> float:
  """The mean IoU of a network that sees background everywhere."""
  for _, run in _first(groups):
    dataset = open_set(predictor.load(run.folder).config.data)
    total = dataset.num_tested
    masks = _some(dataset.test, total, total)['mask']
    counts = np.bincount(masks.ravel(), minlength=256)[:255]
    return counts[0] / counts.sum() / np.count_nonzero(counts)
  return math.nan


def _say_joints(groups: Groups, main: Score) -> Sequence[str]:
  return [*_compare(groups, main), _JOINTS]


SEGMENTATION = Demo(
  config='configs.coco_segmentation',
  seeds=1,
  picture=_draw,
  words=_say_masks,
  further=(
    (
      'python -m train.predict --workdir=runs/demo/segmentation/runs/sam/0'
      ' --resize --out=masks FOLDER',
      'masks of your own images, of the network trained with SAM',
    ),
    ('make demo TASK=pose', 'joints of people'),
  ),
)
POSE = Demo(
  config='configs.coco_pose',
  seeds=1,
  picture=_draw,
  words=_say_joints,
  further=(
    (
      'python -m train.predict --workdir=runs/demo/pose/runs/sam/0 IMAGE',
      'the joints of a person in your own image, of the network trained with'
      ' SAM',
    ),
    ('make demo TASK=segmentation', 'masks of images'),
  ),
)
