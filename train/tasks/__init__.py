"""The tasks that a model is trained for.

A new task is one file beside this one and one row of `TASKS`: a function of
the config and the data set that returns a `Task`.
"""

from collections.abc import Callable
from typing import Any

from train import checks
from train.checks import Config, ConfigError
from train.tasks import pose, segmentation
from train.tasks.classification import classification
from train.tasks.pictures import Panel as Panel
from train.tasks.task import Answer as Answer
from train.tasks.task import Field as Field
from train.tasks.task import Files as Files
from train.tasks.task import Rows as Rows
from train.tasks.task import Score as Score
from train.tasks.task import Task as Task
from train.tasks.task import View as View

TASKS: dict[str, Callable[[Config, Any], Task]] = {
  'classification': classification,
  'pose': pose.pose,
  'segmentation': segmentation.segmentation,
}


def create(config: Config, dataset: Any) -> Task:
  """Builds the task that a config names.

  Args:
    config: the config of the run.
    dataset: the data set.

  Returns:
    The task.

  Raises:
    ConfigError: if there is no such task, an option of it cannot be used, or
      the data set lacks a field.
  """
  build = checks.pick('task', config.task, TASKS)
  task = build(config, dataset)
  missing = sorted(set(task.fields) - set(dataset.fields))
  if missing:
    raise ConfigError(
      f'Given task={config.task!r} with data.name={config.data.name!r}. The '
      f'examples have {", ".join(dataset.fields) or "images alone"} and lack '
      f'{", ".join(missing)}. Use a data set that has them, or another task.'
    )
  return task
