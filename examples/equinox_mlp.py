"""Equinox: ASAM for a perceptron.

`sam_optax.frameworks.equinox` splits a module into its parameters and the rest,
as `eqx.partition` does, and makes the loss function that a method needs.

Of the training labels, 40 % are replaced at random.
"""

# %% The digits of scikit-learn, with wrong labels
import equinox as eqx
import jax
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


# %% The loss for each example
def losses(model, rest, batch):
  x, y = batch
  logits = jax.vmap(model)(x)
  return optax.softmax_cross_entropy_with_integer_labels(logits, y), None


@eqx.filter_jit
def evaluate(model):
  right = jax.vmap(model)(test_x).argmax(axis=-1) == test_y
  return losses(model, None, (train_x, train_y))[0].mean(), right.mean()


# %% Training
def train(method, epochs=60):
  model = eqx.nn.MLP(64, 10, 256, 1, key=jax.random.key(0))
  tx = optax.chain(method, optax.sgd(0.1, momentum=0.9))
  opt_state = tx.init(eqx.filter(model, eqx.is_inexact_array))

  @eqx.filter_jit
  def step(model, opt_state, batch):
    params, loss_fn = sam_optax.frameworks.equinox(model, losses)
    _, grads, grad_fn = sam_optax.frameworks.for_update(loss_fn, params, batch)
    updates, opt_state = tx.update(grads, opt_state, params, grad_fn=grad_fn)
    return eqx.apply_updates(model, updates), opt_state

  batches = np.random.default_rng(1)
  history = [evaluate(model)]
  for _ in range(epochs):
    for rows in np.split(batches.permutation(1280), 10):
      model, opt_state = step(model, opt_state, (train_x[rows], train_y[rows]))
    history.append(evaluate(model))
  loss, accuracy = np.array(history).T
  return {'training loss': loss, 'test accuracy': accuracy}


# %% SGD and ASAM
histories = {
  'SGD': train(sam_optax.identity()),  # A method that never perturbs.
  'ASAM': train(sam_optax.asam(rho=1.0)),
}
for name, history in histories.items():
  loss, accuracy = history.values()
  print(
    f'{name}: training loss {loss[0]:.2f} -> {loss[-1]:.2f},'
    f' test accuracy {accuracy[-1]:.1%}'
  )
