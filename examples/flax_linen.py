"""Flax Linen: ARSAM, which takes the second gradient on some steps only.

The other entry point of a method, `value_and_grad`, returns the loss and the
auxiliary output of the first pass as well. `sam_optax.frameworks.linen` puts
the statistics of BatchNorm there.

Of the training labels, 40 % are replaced at random.
"""

# %% The digits of scikit-learn, with wrong labels
import flax.linen as nn
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


# %% The network, and its loss for each example
class Net(nn.Module):
  @nn.compact
  def __call__(self, x, train):
    x = nn.Dense(256)(x)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    x = nn.Dropout(0.1, deterministic=not train)(nn.relu(x))
    return nn.Dense(10)(x)


net = Net()
cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def losses(apply, batch):
  x, y = batch
  return cross_entropy(apply(x, train=True), y), None


@jax.jit
def evaluate(variables):
  apply = lambda x: net.apply(variables, x, train=False)
  right = apply(test_x).argmax(axis=-1) == test_y
  return cross_entropy(apply(train_x), train_y).mean(), right.mean()


# %% Training
def train(method, epochs=60):
  base = optax.sgd(0.1, momentum=0.9)
  variables = net.init(jax.random.key(0), train_x[:1], train=False)
  states = method.init(variables['params']), base.init(variables['params'])

  @jax.jit
  def step(variables, states, batch, key):
    state, base_state = states
    params, loss_fn = sam_optax.frameworks.linen(
      net.apply, variables, losses, rngs={'dropout': key}
    )
    (_, aux), grads, state = method.value_and_grad(
      loss_fn, params, state, batch
    )
    updates, base_state = base.update(grads, base_state, params)
    params = optax.apply_updates(params, updates)
    return {'params': params, **aux['rest']}, (state, base_state)

  batches, key = np.random.default_rng(1), jax.random.key(1)
  history = [evaluate(variables)]
  for epoch in range(epochs):
    for i, rows in enumerate(np.split(batches.permutation(1280), 10)):
      batch = train_x[rows], train_y[rows]
      step_key = jax.random.fold_in(key, 10 * epoch + i)
      variables, states = step(variables, states, batch, step_key)
    history.append(evaluate(variables))
  print(f'SAM steps: {states[0].sam_fraction:.0%}')
  loss, accuracy = np.array(history).T
  return {'training loss': loss, 'test accuracy': accuracy}


# %% SGD and ARSAM
histories = {
  'SGD': train(sam_optax.identity()),  # A method that never perturbs.
  # A radius for wrong labels; elsewhere begin with 0.05 to 0.2.
  'ARSAM': train(
    sam_optax.arsam(rho=2.0, alpha=0.5, segment=10, warmup_steps=50)
  ),
}
for name, history in histories.items():
  loss, accuracy = history.values()
  print(
    f'{name}: training loss {loss[0]:.2f} -> {loss[-1]:.2f},'
    f' test accuracy {accuracy[-1]:.1%}'
  )
