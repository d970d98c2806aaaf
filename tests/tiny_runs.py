"""The smallest runs of the program: a config, a data set, its records."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests import tiny_config
from train.data import memory
from train.engine.log import Log

ROOT = pathlib.Path(__file__).parent.parent


def make_dataset(train=70, test=30, side=8, channels=1):
  """Random images whose class is in their brightness."""
  generator = np.random.default_rng(0)

  def split(size):
    labels = generator.integers(0, 10, size).astype(np.int32)
    shape = (size, side, side, channels)
    images = generator.integers(0, 30, shape) + 22 * labels[:, None, None, None]
    return images.astype(np.uint8), labels

  return memory.labelled(*split(train), *split(test), 10)


@pytest.fixture(name='npz')
def npz_file(tmp_path):
  """The data set as a file."""
  dataset = make_dataset()
  path = tmp_path / 'data.npz'
  np.savez(
    path,
    train_x=dataset.train['image'],
    train_y=dataset.train['label'],
    test_x=dataset.test['image'],
    test_y=dataset.test['label'],
  )
  return str(path)


def tiny(variant='arsam', **changes):
  """A config of 12 steps on an MLP, with some of its settings changed."""
  config = tiny_config.get_config(variant)
  config.update({'batch_size': 8, 'steps': 12, 'log_every': 5, **changes})
  return config


def records(folder):
  """The records that a run left in its folder."""
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def run_to(folder, program, seed):
  """Runs a program in a folder, and returns its records as text."""
  with Log(folder) as log:
    program.run(seed, log)
  return (folder / 'metrics.jsonl').read_text()


def run_command(*arguments, module='train'):
  """Runs a command as a user does, in a process of its own."""
  return subprocess.run(
    [sys.executable, '-m', module, *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
