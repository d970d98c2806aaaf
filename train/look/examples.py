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
    wrong = _wrong(network, np.arange(len(table)))
    sheets, shares = {}, {}
    for end, ids in (('most', order[:_SHOWN]), ('least', order[::-1][:_SHOWN])):
      rows = network.rows_of(ids)
      labels = rows.get('label')
      marked = np.zeros(len(ids), bool) if wrong is None else wrong[ids]
      captions = [f'{table[number]:.3g}' for number in ids]
      if labels is not None:
        pairs = zip(np.asarray(labels), captions, strict=True)
        captions = [f'{label}: {caption}' for label, caption in pairs]
      sheets[end] = pictures.contact_sheet(
        np.asarray(rows['image']), captions, marked
      )
      tenth = (
        order[: len(order) // 10]
        if end == 'most'
        else (order[::-1][: len(order) // 10])
      )
      if wrong is not None and len(tenth):
        shares[end] = float(np.mean(wrong[tenth]))
    if wrong is not None and shares:
      shares['all'] = float(np.mean(wrong))
    found.append(Ends(name, sheets, shares or None))
  return found


def _wrong(network: Trained, ids: np.ndarray) -> np.ndarray | None:
  """Whether the label that was trained on is another one than in the set."""
  wrong = []
  for part in np.array_split(ids, -(-len(ids) // 1000)):
    rows = network.rows_of(part)
    target = network.prepared(rows).get('target')
    if target is None or 'label' not in rows or target.ndim != 2:
      return None
    wrong.append(np.argmax(target, axis=-1) != np.asarray(rows['label']))
  return np.concatenate(wrong)
