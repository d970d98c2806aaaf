"""The page docs/reproduction.md, made from the published data.

python -m configs --markdown > docs/reproduction.md
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from configs import index, published, settings

_ROOT = pathlib.Path(__file__).parent.parent
# The methods of the papers, and the ones that they are compared with.
_COMPARED = {
  'arsam': 'sam',
  'ausam': 'sam',
  'fsam': 'sam',
  'fasam': 'asam',
  'rsam': 'sam',
}
# Methods of one gradient, and those whose second one is of another batch, so
# that no published speed is theirs.
_ONE_GRADIENT = {'identity', 'lpfsgd'}
_OTHER_BATCH = {'sam_full', 'sam_noise', 'sam_db'}
# Settings that a row shares with the one that it is compared with.
_CONDITIONS = ('noise_percent', 'resolution', 'mixup', 'randaugment')
_HEAD = """\
# The tables of the papers

<!-- Made by `python -m configs --markdown`; do not edit. -->

Every row of the tables of ARSAM, AUSAM, F-SAM and R-SAM that the authors ran
themselves is a variant of a config file, with the settings that the paper
prints. The appendices of ARSAM and R-SAM could not be had: their learning
rates, decays and radii are those of AUSAM, of F-SAM or of released code, or our
choice. The file beside each (`configs/arsam.py` and so on) names the source of
each number. The published numbers themselves, with their oddities, are in
[configs/published](../configs/published/README.md).

The configs have float32 arrays and use one device, whatever the machine has;
the sources of both are in `configs/settings.py` and `configs/rsam.py`. Products
of these arrays have the default precision of JAX: TF32 on recent NVIDIA GPUs,
bfloat16 on TPUs. To make them float32, set
`JAX_DEFAULT_MATMUL_PRECISION=highest` in the environment. To depart from the
configs on purpose, add one of these to a command:

- `--config.dtype=bfloat16` for activations and products in bfloat16.
- `--config.mesh=None --config.parallel=jit` for all devices. They share each
  step, and the algorithm stays that of one device.
- `--config.mesh=None` for all devices, each with its own part of the batch, for
  the perturbation, for BatchNorm and for the examples that AUSAM chooses. This
  is another algorithm on each number of devices.

The ViTs of R-SAM take all devices and perturb for every 16 examples, as many as
each core of its TPUs had. A device holds perturbed parameters for each of its
groups of 16. If it lacks the memory, `--config.examples_per_perturbation=None`
makes one group of all its examples, which is another algorithm too. The groups
of one device share their dropout masks, so the result depends on the number of
devices.

```sh
python -m configs  # which config trains which row
python -m train --workdir=runs/row \\
  --config=configs/arsam_table3.py:resnet18-cifar10-arsam
python -m train.sweep --config=configs/arsam_table3.py --seeds=3 \\
  --workdir=runs/arsam_table3
python -m train.report runs/arsam_table3 --config=configs/arsam_table3.py
```

Replace `arsam_table3` by the file of another table. Below, *claim* compares the
method of the paper with SAM (F-ASAM with ASAM) in accuracy, in percentage
points, and in speed, in percent; a range is over the rows of the table.
*GPU-hours* are those of one seed of all runs on the GPU of ARSAM and AUSAM, an
RTX 3090, from the published images per second, or seconds of training where a
table has these. Where a row has neither, its speed is taken to be that of the
optimizer alone (one gradient) or SAM (two) on the same network and images in
those papers: such hours are marked with ~. *n of m runs* says that the others
have no speed to go by. *Run here* links to the results in this repository.
"""


def page() -> str:
  """The page in Markdown."""
  parts = [_HEAD]
  for paper in published.PAPERS:
    about = published.read(paper)['paper']
    parts.append(f'## {about["name"]}: {about["title"]}, {about["year"]}\n')
    head = ('file', 'table', 'claim', 'runs', 'GPU-hours', 'run here')
    lines = [_table(paper, number) for number in published.tables(paper)]
    figures = [_figure(paper, n) for n in published.read(paper)['figures']]
    parts.append(_markdown(head, [*lines, *filter(None, figures)]))
  return '\n'.join(parts)


def hours(row: published.Row, epochs: int) -> tuple[float | None, bool]:
  """GPU-hours of a run from the published speeds.

  Args:
    row: what is trained.
    epochs: how long; the published seconds are of the whole training.

  Returns:
    The hours, None where no speed is published, and whether the speed is that
    of another row.
  """
  if row.training_seconds is not None:
    return row.training_seconds / 3600, False
  method, speed = settings.method_of(row), row.images_per_second
  borrowed = speed is None
  if borrowed and method not in _OTHER_BATCH:
    like = 'identity' if method in _ONE_GRADIENT else 'sam'
    speed = _speeds().get((row.model, row.dataset, like))
  if speed is None:
    return None, borrowed
  return epochs * settings.data_of(row).num_examples / speed / 3600, borrowed


def _speeds() -> Mapping[tuple[str, str, str], float]:
  """Images per second by network, data set and method, of the authors."""
  found = {}
  for paper, number in (('ausam', '2'), ('ausam', '3'), ('arsam', '4')):
    for row in published.rows(paper, number):
      if row.images_per_second and not row.quoted_from:
        key = (row.model, row.dataset, settings.method_of(row))
        found.setdefault(key, row.images_per_second)
  return found


def _table(paper: str, number: str) -> Sequence[str]:
  rows = published.rows(paper, number)
  what = published.read(paper)['tables'][number]['what']
  title = f'table {number}: {what}'
  file = index.module(paper, number)
  assert file is not None
  quoted = sum(row.quoted_from is not None for row in rows)
  runs = f'{len(file.VARIANTS)}' + (f' ({quoted} quoted)' if quoted else '')
  scored = any(row.accuracy is not None for row in rows)
  return [
    f'`{paper}_table{number}`',
    title,
    claim(rows) if scored else 'hyperparameters, without results',
    runs,
    _hours(file) if scored else '-',
    _results(f'{paper}_table{number}'),
  ]


def _figure(paper: str, number: str) -> Sequence[str] | None:
  file = index.module(paper, number, 'figure')
  if file is None:
    return None
  what = published.read(paper)['figures'][number]['what']
  trend = published.figure(paper, int(number)).get('trend', '-')
  name = f'{paper}_figure{number}'
  count = str(len(file.VARIANTS))
  line = [f'`{name}`', f'figure {number}: {what}', trend, count]
  return [*line, _hours(file), _drawn(name)]


def claim(rows: Sequence[published.Row]) -> str:
  """The result of a table in words: the method of the paper against SAM."""
  gains, speeds = [], []
  for row in rows:
    if row.quoted_from or row.method not in (row.paper, 'fasam'):
      continue
    other = next((other for other in rows if _comparable(row, other)), None)
    if other is None:
      continue
    if row.accuracy is not None and other.accuracy is not None:
      gains.append(row.accuracy - other.accuracy)
    speed = _relative_speed(row, other)
    if speed is not None:
      speeds.append(speed)
  parts = []
  if gains:
    parts.append(f'{_range(gains, lambda gain: f"{gain:+.2f}")} points')
  if speeds:
    parts.append(f'{_range(speeds, lambda speed: f"{speed:.0f}")} % speed')
  return ', '.join(parts) or '-'


def _relative_speed(row: published.Row, other: published.Row) -> float | None:
  """The speed in percent of another row's: printed, or from the seconds."""
  if row.relative_speed is not None:
    return row.relative_speed
  own, others = row.training_seconds, other.training_seconds
  return None if own is None or others is None else 100 * others / own


def _comparable(row: published.Row, other: published.Row) -> bool:
  return other.method == _COMPARED[str(row.method)] and (
    (row.model, row.dataset) == (other.model, other.dataset)
    and all(row.setting.get(k) == other.setting.get(k) for k in _CONDITIONS)
  )


def _range(values: Sequence[float], form: Callable[[float], str]) -> str:
  low, high = form(min(values)), form(max(values))
  return low if low == high else f'{low} to {high}'


def _hours(file: ModuleType) -> str:
  """GPU-hours of all runs of a file, one seed."""
  found = [
    hours(row, file.get_config(name).epochs)
    for name, row in file.VARIANTS.items()
  ]
  known = [time for time, _ in found if time is not None]
  if not known:
    return 'no speed published'
  mark = '~' if any(other for time, other in found if time is not None) else ''
  some = f' ({len(known)} of {len(found)} runs)'
  return f'{mark}{sum(known):,.0f}' + (some if len(known) < len(found) else '')


def _results(name: str) -> str:
  path = _ROOT / 'results' / f'{name}.md'
  return f'[yes](../results/{name}.md)' if path.exists() else 'no'


def _drawn(name: str) -> str:
  """A link to the figures on the digits, if this one is among them."""
  page = _ROOT / 'results' / 'figures.md'
  drawn = page.exists() and f'`{name}`' in page.read_text('utf-8')
  return '[on the digits](../results/figures.md)' if drawn else 'no'


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
  line = lambda cells: f'| {" | ".join(cells)} |'
  rule = '|---' * len(head) + '|'
  return '\n'.join([line(head), rule, *map(line, body), ''])
