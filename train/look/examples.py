"""The training examples at the ends of what a method keeps of each."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from train.look import pictures
from train.look.trained import Trained

_SHOWN = 16


class Ends(NamedTuple):
  """Both ends of a table of all training examples.

  Attributes:
    name: of the table.
    sheets: pictures of the examples, by 'most' and 'least'.
    shares: of all, of the most and of the least, those with a wrong label; None
      where labels are not known to be wrong.
  """

  name: str
  sheets: dict[str, Image.Image]
  shares: dict[str, float] | None


def ends(network: Trained) -> list[Ends]:
  """For each table of a run, the examples with the most and with the least."""
  found = []
  for name, table in network.tables.items():
    order = np.argsort(-table, kind='stable')
    wrong = _wrong(network, len(table))
    sheets = {
      'most': _sheet(network, table, order[:_SHOWN], wrong),
      'least': _sheet(network, table, order[::-1][:_SHOWN], wrong),
    }
    shares = None
    if wrong is not None:
      tenth = -(-len(order) // 10)
      parts = {'all': order, 'most': order[:tenth], 'least': order[-tenth:]}
      shares = {part: float(np.mean(wrong[ids])) for part, ids in parts.items()}
    found.append(Ends(name, sheets, shares))
  return found


def _sheet(network, table, ids, wrong) -> Image.Image:
  rows = network.rows_of(ids)
  captions = [f'{table[number]:.3g}' for number in ids]
  if 'label' in rows:
    pairs = zip(np.asarray(rows['label']), captions, strict=True)
    captions = [f'{label}: {caption}' for label, caption in pairs]
  marked = [False] * len(ids) if wrong is None else wrong[ids].tolist()
  return pictures.contact_sheet(np.asarray(rows['image']), captions, marked)


def _wrong(network: Trained, count: int) -> np.ndarray | None:
  """Whether the label that was trained on is another one than in the set."""
  if not network.relabelled:
    return None
  wrong = []
  for part in np.array_split(np.arange(count), -(-count // 1000)):
    rows = network.rows_of(part)
    target = network.prepared(rows)['target']
    wrong.append(np.argmax(target, axis=-1) != np.asarray(rows['label']))
  return np.concatenate(wrong)
