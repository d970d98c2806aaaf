"""Plain JAX: SAM in a training loop of your own.

A method stands first in an Optax chain. The only new thing in a step is
`grad_fn`, the gradient of the same batch at other parameters.

Of the training labels, 40 % are replaced at random. A network that is trained
long enough learns the wrong ones too; with SAM it learns fewer of them.
"""

# %% The digits of scikit-learn, with wrong labels
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets

import sam_optax

rng = np.random.default_rng(0)
x, y = datasets.load_digits(return_X_y=True)
order = rng.permutation(len(x))
x, y = x[order].astype(np.float32) / 16, y[order]
train_x, test_x, train_y, test_y = x[:1280], x[1280:], y[:1280], y[1280:]
replaced = rng.random(1280) < 0.4
train_y = np.where(replaced, rng.integers(10, size=1280), train_y)


# %% A network of two layers
def init(key):
  keys = jax.random.split(key)
  return {
    'w1': jax.random.normal(keys[0], (64, 256)) * (2 / 64) ** 0.5,
    'b1': jnp.zeros(256),
    'w2': jax.random.normal(keys[1], (256, 10)) * (1 / 256) ** 0.5,
    'b2': jnp.zeros(10),
  }


def logits(params, x):
  hidden = jax.nn.relu(x @ params['w1'] + params['b1'])
  return hidden @ params['w2'] + params['b2']


def loss(params, x, y):
  return optax.softmax_cross_entropy_with_integer_labels(
    logits(params, x), y
  ).mean()


@jax.jit
def evaluate(params):
  right = logits(params, test_x).argmax(axis=-1) == test_y
  return loss(params, train_x, train_y), right.mean()


# %% Training
def train(method, epochs=60):
  tx = optax.chain(method, optax.sgd(0.1, momentum=0.9))
  params = init(jax.random.key(0))
  opt_state = tx.init(params)
  sam_optax.check_chain(tx, params)  # Raises if the order is wrong.

  @jax.jit
  def step(params, opt_state, x, y):
    grad_fn = jax.grad(lambda params: loss(params, x, y))
    updates, opt_state = tx.update(
      grad_fn(params), opt_state, params, grad_fn=grad_fn
    )
    return optax.apply_updates(params, updates), opt_state

  batches = np.random.default_rng(1)
  history = [evaluate(params)]
  for _ in range(epochs):
    for rows in np.split(batches.permutation(1280), 10):
      params, opt_state = step(params, opt_state, train_x[rows], train_y[rows])
    history.append(evaluate(params))
  losses, accuracies = np.array(history).T
  return {'training loss': losses, 'test accuracy': accuracies}


# %% SGD and SAM
histories = {
  'SGD': train(sam_optax.identity()),  # A method that never perturbs.
  'SAM': train(sam_optax.sam(rho=0.2)),
}
for name, history in histories.items():
  losses, accuracies = history.values()
  print(
    f'{name}: training loss {losses[0]:.2f} -> {losses[-1]:.2f},'
    f' test accuracy {accuracies[-1]:.1%}'
  )
