"""Small problems that the tests share."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np

GOLDEN = json.loads(
  (pathlib.Path(__file__).parent / 'golden' / 'golden.json').read_text()
)


class Quadratic:
  """Problem Q of the golden vectors: L_t(w) = w'Aw / 2 - b_t'w.

  A batch has two examples with the losses L_t + d and L_t - d, whose mean is
  L_t, so that the mean in `value_and_grad` is tested.
  """

  def __init__(self, deterministic=False):
    problem = GOLDEN['problem_Q']
    self.hessian = jnp.asarray(problem['A'])
    self.linear = np.asarray(problem['B'])
    self.mean_linear = np.asarray(problem['Bbar'])
    self.start = jnp.asarray(problem['w0'])
    self.deterministic = deterministic

  def batch(self, step):
    b = self.linear[0 if self.deterministic else step % 4]
    return jnp.asarray(np.stack([b, b]))

  def losses(self, w, batch):
    curved = 0.5 * w @ self.hessian @ w
    offset = jnp.asarray([1.0, -1.0]) * jnp.sum(w)
    return curved - batch @ w + offset, {'seen': w}

  def loss(self, w, batch):
    return jnp.mean(self.losses(w, batch)[0])


class Regression:
  """Problem P of the golden vectors: l_i = (x_i.w - y_i)^2 / 2."""

  def __init__(self):
    problem = GOLDEN['problem_P']
    self.x = jnp.asarray(problem['X'])
    self.y = jnp.asarray(problem['Y'])
    self.start = jnp.asarray(problem['w0'])

  def losses(self, w, batch):
    x, y = batch
    return 0.5 * (x @ w - y) ** 2, None
