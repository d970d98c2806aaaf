"""Flax NNX: F-SAM for a network with BatchNorm and dropout.

A step evaluates the loss twice. `sam_optax.frameworks.nnx` makes a loss
function whose two passes draw the same dropout mask; only the first pass moves
the statistics of BatchNorm. `nnx.Optimizer` passes `grad_fn` on to the method.

Of the training labels, 40 % are replaced at random.
"""

# %% The digits of scikit-learn, with wrong labels
import numpy as np
import optax
from flax import nnx
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
class Net(nnx.Module):
  def __init__(self, rngs):
    self.hidden = nnx.Linear(64, 256, rngs=rngs)
    self.norm = nnx.BatchNorm(256, momentum=0.9, rngs=rngs)
    self.drop = nnx.Dropout(0.1, rngs=rngs)
    self.head = nnx.Linear(256, 10, rngs=rngs)

  def __call__(self, x):
    return self.head(self.drop(nnx.relu(self.norm(self.hidden(x)))))


def losses(model, batch):
  x, y = batch
  return optax.softmax_cross_entropy_with_integer_labels(model(x), y), None


@nnx.jit
def evaluate(model):
  right = model(test_x).argmax(axis=-1) == test_y
  return losses(model, (train_x, train_y))[0].mean(), right.mean()


# %% One step
@nnx.jit
def step(model, optimizer, batch):
  params, loss_fn = sam_optax.frameworks.nnx(model, losses)
  (loss, aux), grads, grad_fn = sam_optax.frameworks.for_update(
    loss_fn, params, batch
  )
  optimizer.update(model, grads, grad_fn=grad_fn)
  nnx.update(model, aux['rest'])  # BatchNorm and dropout, as of the first pass
  return loss


# %% Training
def train(method, epochs=60):
  model = Net(nnx.Rngs(0))
  tx = optax.chain(method, optax.sgd(0.1, momentum=0.9))
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  batches = np.random.default_rng(1)
  history = [evaluate(nnx.view(model, deterministic=True))]
  for _ in range(epochs):
    for rows in np.split(batches.permutation(1280), 10):
      step(model, optimizer, (train_x[rows], train_y[rows]))
    history.append(evaluate(nnx.view(model, deterministic=True)))
  losses, accuracies = np.array(history).T
  return {'training loss': losses, 'test accuracy': accuracies}


# %% SGD and F-SAM
histories = {
  'SGD': train(sam_optax.identity()),  # A method that never perturbs.
  # A radius for wrong labels; elsewhere begin with 0.05 to 0.2.
  'F-SAM': train(sam_optax.fsam(rho=2.0)),
}
for name, history in histories.items():
  loss, accuracy = history.values()
  print(
    f'{name}: training loss {loss[0]:.2f} -> {loss[-1]:.2f},'
    f' test accuracy {accuracy[-1]:.1%}'
  )
