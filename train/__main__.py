"""Trains one model with one method.

python -m train --config=configs/digits.py --workdir=runs/digits
"""

import json
import pathlib
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from train import config as train_config
from train import data, loop, records
from train.log import Log

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'A file in configs/, with :VARIANT if it has variants.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'A new folder for the run.', required=True
)


def main(argv: list[str]) -> None:
  """Reads the flags, trains, and says what came out."""
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.ERROR)  # TFDS and JAX report every detail
  if len(argv) > 1:
    raise app.UsageError(f'Given {argv[1]!r}, which is not a flag.')
  try:
    summary = train(_CONFIG.value, pathlib.Path(_WORKDIR.value))
  except (train_config.ConfigError, data.DataError, records.NotFinite) as error:
    sys.exit(f'error: {error}')
  print(summary)


def train(config, workdir: pathlib.Path) -> str:
  """Runs a config into a new folder.

  Args:
    config: the config of the run.
    workdir: a folder that holds no run yet; made once the config has proved
      good.

  Returns:
    What came out, for a person.

  Raises:
    ConfigError, DataError, NotFinite: see `train/config.py`, `train/data.py`
      and `train/records.py`.
  """
  if (workdir / 'metrics.jsonl').exists():
    raise train_config.ConfigError(
      f'Given workdir={workdir}. It already holds a run, which would be '
      'overwritten. Give another folder, or delete this one.'
    )
  dataset = data.load(config.data.name, config.data.dir)
  program = loop.Program(config, dataset)
  with Log(workdir, program.total_steps) as log:
    (workdir / 'config.json').write_text(config.to_json_best_effort(indent=2))
    result = program.run(config.seed, log)
    files = [workdir / 'config.json', *log.files, workdir / 'result.json']
  record = {
    **result._asdict(),
    'device': jax.devices()[0].device_kind,
    'jax': jax.__version__,
  }
  files[-1].write_text(json.dumps(record, indent=2) + '\n')
  lines = [
    f'test accuracy                  {result.test_accuracy:.2%}',
    f'images/s                       {result.images_per_second:,.0f}',
    'gradient evaluations per step  '
    f'{result.gradient_evaluations_per_step:.3f}',
    f'steps that looked              {result.look_share:.1%}',
    f'compilation                    {result.compile_seconds:.1f} s',
    *(f'wrote {path}' for path in files),
  ]
  return '\n'.join(lines)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; what the config refuses is an error, not a traceback."""
  try:
    return flags.FLAGS(argv)
  except AttributeError as error:  # an override of a key that is not there
    key = error.args[0]
    text = key.args[0] if isinstance(key, KeyError) else str(key)
    sys.exit(
      f'error: Given an override of {", ".join(text.splitlines())} The config '
      'has no such key. Its keys are those of default() in train/config.py '
      'and the arguments of the method.'
    )
  except (flags.Error, OSError) as error:
    # A config file's own error comes as the text of its traceback.
    sys.exit(f'error: {str(error).rpartition("ConfigError: ")[2].strip()}')


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main, flags_parser=parse_flags)
