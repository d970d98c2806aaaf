"""People with joints, in the layout of MPII as the codes for pose have it.

`images/FILE` and `annot/SPLIT.json`, and for the test split of MPII itself
`annot/gt_valid.mat`, which has the heads.
"""

import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from train.checks import DataError
from train.data import image as images
from train.data.store import Store

JOINTS = (
  'right ankle', 'right knee', 'right hip', 'left hip', 'left knee',
  'left ankle', 'pelvis', 'thorax', 'upper neck', 'head top', 'right wrist',
  'right elbow', 'right shoulder', 'left shoulder', 'left elbow', 'left wrist',
)  # fmt: skip
PEOPLE = 'annot/train.json'
# The side of the box of a person at scale 1, and how much more is cut out.
_SIDE, _MARGIN = 200.0, 1.25
# Of the diagonal of a head's box.
_HEAD_SHARE = 0.6


class People(NamedTuple):
  """The people of a split; pixels have their centres at whole numbers.

  Attributes:
    joints: float32 ``[n, joints, 2]``, x and y in pixels of the image.
    visible: bool ``[n, joints]``: the joints that have a label; the others'
      places mean nothing.
    center: float32 ``[n, 2]``, x and y of the middle of the person's box.
    side: float32 ``[n]``, side of the box in pixels, with its margin.
    head_size: float32 ``[n]`` in pixels, the length that PCKh divides by; nan,
      or not above 0, where it is not known.
  """

  joints: np.ndarray
  visible: np.ndarray
  center: np.ndarray
  side: np.ndarray
  head_size: np.ndarray


@dataclasses.dataclass(frozen=True)
class Split:
  """The people of a split and their images."""

  store: Store
  files: Sequence[str]
  people: People

  def __len__(self) -> int:
    return len(self.files)

  def encoded(self, number: int) -> bytes:
    """The file of a person's image."""
    return self.store.read(f'images/{self.files[number]}')

  def name(self, number: int) -> str:
    """The file's name in an error."""
    return self.store.name(f'images/{self.files[number]}')

  def image(self, number: int) -> np.ndarray:
    """The image of a person, uint8 ``[h, w, 3]``."""
    image = images.read(self.encoded(number), self.name(number))
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def find(path: str, split: str) -> Split:
  """Reads the people of a split.

  Coordinates start at 1 in the files and at 0 here. A person's box is moved
  down by 15 pixels a scale, and is 1.25 times as large, as in HRNet's code.

  Args:
    path: of the folder or zip; what is looked for may be two folders below.
    split: name of the JSON file, such as ``'train'`` or ``'valid'``.

  Returns:
    The split; its images are read when they are asked for.

  Raises:
    DataError: if there is no such layout, or a person lacks something.
  """
  store = Store(path).first(f'annot/{split}.json')
  if store is None:
    raise DataError(
      f'Cannot load {path!r}. It has no annot/{split}.json, at the top or up to'
      ' two folders below. Give the folder or the zip of a data set in the'
      ' layout of MPII, and a split that it has.'
    )
  file = f'annot/{split}.json'
  name = store.name(file)
  try:
    listed = json.loads(store.read(file))
    found = people(listed)
    files = [person['image'] for person in listed]
  except (ValueError, KeyError, TypeError, IndexError) as error:
    raise DataError(
      f'Cannot load {name}. It is no list of people with image, joints,'
      f' joints_vis, center and scale: {error!r}. Use the file as MPII has it.'
    ) from error
  matlab = 'annot/gt_valid.mat'
  if split == 'valid' and store.has(matlab):
    sizes = head_sizes(store.read(matlab))
    if len(sizes) != len(files):
      raise DataError(
        f'Cannot load {store.name(matlab)}. It has {len(sizes)} heads, and'
        f' {name} has {len(files)} people. Use two files of one release.'
      )
    found = found._replace(head_size=sizes)
  boxless = ~(np.isfinite(found.side) & (found.side > 0))
  if np.any(boxless):
    raise DataError(
      f'Cannot load {name}. {np.sum(boxless)} of {len(files)} people, such as'
      f' in {files[np.argmax(boxless)]!r}, have a scale that is not above 0,'
      ' and so no box. Leave such people out of the file.'
    )
  return Split(store, files, found)


def notes(train: Split, test: Split) -> Sequence[str]:
  """Checks two splits beside each other.

  Args:
    train: the training split.
    test: the test split.

  Returns:
    What is rarely meant, and what to do about it.

  Raises:
    DataError: if they differ in their joints, or nobody can be scored.
  """
  counts = [split.people.joints.shape[1] for split in (train, test)]
  if counts[0] != counts[1]:
    raise DataError(
      f'Cannot use {train.store}. Its training people have {counts[0]} joints'
      f' and its test people {counts[1]}, where a model has one number. Give'
      ' all people the same joints.'
    )
  sizes = test.people.head_size
  known = np.sum(np.isfinite(sizes) & (sizes > 0))
  if not known:
    raise DataError(
      f'Cannot use {test.store}. Nobody in its test split has a head_size, by'
      " which the score divides. Give each of them its head's length in pixels"
      ' as head_size, or another length that grows with the person.'
    )
  if known == len(sizes):
    return ()
  return (
    f'{len(sizes) - known} of {len(sizes)} test people have no head_size, by'
    ' which the score divides, and do not count in it. Give it for each.',
  )


def facts(found: People) -> dict[str, Any]:
  """What a data set knows of its joints: how many, and MPII's names."""
  joints = found.joints.shape[1]
  if joints != len(JOINTS):
    return {'joints': joints}
  return {'joints': joints, 'joint_names': JOINTS}


def people(listed: Sequence[dict[str, Any]]) -> People:
  """Builds the arrays of MPII's JSON.

  Args:
    listed: a person each: ``joints`` ``[16][2]``, ``joints_vis`` ``[16]``,
      ``center`` ``[2]``, ``scale``, and, if it is known, ``head_size``. The
      joints are as many as everybody has; 16 are MPII's.

  Returns:
    The people, in their order.
  """
  joints = np.array([person['joints'] for person in listed], np.float64)
  visible = np.array([person['joints_vis'] for person in listed])
  center = np.array([person['center'] for person in listed], np.float64)
  scale = np.array([person['scale'] for person in listed], np.float64)
  sizes = [person.get('head_size', np.nan) for person in listed]
  if joints.ndim != 3 or joints.shape[-1] != 2:
    raise ValueError(f'joints of shape {joints.shape}')
  if visible.shape != joints.shape[:2] or center.shape != (len(listed), 2):
    raise ValueError(
      f'joints_vis of shape {visible.shape}, center of {center.shape}'
    )
  placed = np.all(np.isfinite(joints), axis=-1)
  if not (np.all(placed | (visible <= 0)) and np.isfinite(center).all()):
    raise ValueError('a center, or a joint with a label, that is no number')
  # A product with what is no number is none, of a weight of 0 too.
  joints = np.where(placed[..., None], joints, 0)
  center[:, 1] += 15 * scale
  return People(
    (joints - 1).astype(np.float32),
    visible > 0,
    (center - 1).astype(np.float32),
    (_SIDE * _MARGIN * scale).astype(np.float32),
    np.array(sizes, np.float32),
  )


def head_sizes(encoded: bytes) -> np.ndarray:
  """Reads the sizes of the heads of MPII's `gt_valid.mat`.

  Args:
    encoded: the file's content.

  Returns:
    float32 ``[n]``: 0.6 times the diagonal of each head's box, in pixels.
  """
  # Here: SciPy's readers are needed for this file alone.
  from scipy import io as matlab

  boxes = matlab.loadmat(io.BytesIO(encoded))['headboxes_src']
  sides = np.asarray(boxes[1] - boxes[0], np.float64)
  return (_HEAD_SHARE * np.linalg.norm(sides, axis=0)).astype(np.float32)
