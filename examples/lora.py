"""LoRA: a transformer whose adapters are trained with SAM.

The transformer reads a digit row by row. It is trained on upright digits, and
then fine-tuned on 300 digits that lie on their side. Its own weights are
frozen: the method and the optimizer see the adapters only, so the perturbation
and the state have the size of the adapters. SAM does not help here: the labels
are right, and the example is about the mechanics.
"""

# %% The digits of scikit-learn, upright and on their side
import jax
import numpy as np
import optax
from flax import nnx
from sklearn import datasets

import sam_optax
from sam_optax import frameworks

order = np.random.default_rng(0).permutation(1797)
digits = datasets.load_digits()
x, y = digits.images[order].astype(np.float32) / 16, digits.target[order]
sideways = np.rot90(x, axes=(1, 2))
upright = x[:1000], y[:1000]
turned, test = (sideways[1000:1300], y[1000:1300]), slice(1300, None)


# %% A small transformer
class Block(nnx.Module):
  def __init__(self, rngs):
    self.norm1, self.norm2 = (nnx.LayerNorm(32, rngs=rngs) for _ in range(2))
    self.attend = nnx.Linear(32, 3 * 32, rngs=rngs)
    self.up = nnx.Linear(32, 128, rngs=rngs)
    self.down = nnx.Linear(128, 32, rngs=rngs)

  def __call__(self, x):  # [batch, rows, 32]
    heads = self.attend(self.norm1(x)).reshape(len(x), 8, 3, 4, 8)
    query, key, value = (heads[:, :, i] for i in range(3))
    x += jax.nn.dot_product_attention(query, key, value).reshape(x.shape)
    return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Transformer(nnx.Module):
  def __init__(self, rngs):
    self.embed = nnx.Linear(8, 32, rngs=rngs)
    self.position = nnx.Param(jax.random.normal(rngs(), (8, 32)))
    self.blocks = nnx.Sequential(Block(rngs), Block(rngs))
    self.head = nnx.Linear(32, 10, rngs=rngs)

  def __call__(self, images):
    x = self.blocks(self.embed(images) + self.position[...])
    return self.head(x.mean(axis=1))


def losses(model, batch):
  x, y = batch
  return optax.softmax_cross_entropy_with_integer_labels(model(x), y), None


# %% Training of those parameters that have the type `wrt`
def train(model, method, data, wrt, steps=150):
  tx = optax.chain(method, optax.adam(3e-3))
  optimizer = nnx.Optimizer(model, tx, wrt=wrt)

  @nnx.jit
  def step(model, optimizer, batch):
    params, loss_fn = frameworks.nnx(model, losses, wrt=wrt)
    (loss, _), grads, grad_fn = frameworks.for_update(loss_fn, params, batch)
    right = model(sideways[test]).argmax(axis=-1) == y[test]
    optimizer.update(model, grads, grad_fn=grad_fn)
    return loss, right.mean()

  history, rng = [], np.random.default_rng(1)
  for _ in range(steps):
    rows = rng.permutation(len(data[1]))[:100]
    history.append(step(model, optimizer, (data[0][rows], data[1][rows])))
  loss, accuracy = np.array(history).T
  return {'training loss': loss, 'test accuracy': accuracy}


# %% Upright digits first, and then adapters for the others
def with_adapters(model, rank=4):
  model, rngs = nnx.clone(model), nnx.Rngs(1)
  for block in model.blocks.layers:
    for name in ('attend', 'up', 'down'):
      layer = getattr(block, name)
      sizes = layer.in_features, rank, layer.out_features
      setattr(block, name, nnx.LoRA(*sizes, base_module=layer, rngs=rngs))
  return model


trained = Transformer(nnx.Rngs(0))
train(trained, sam_optax.identity(), upright, nnx.Param)
methods = {'Adam': sam_optax.identity(), 'SAM': sam_optax.sam(rho=0.05)}
histories = {}
for name, method in methods.items():
  histories[name] = train(with_adapters(trained), method, turned, nnx.LoRAParam)
  for measure, values in histories[name].items():
    print(f'{name}: {measure} {values[0]:.3f} -> {values[-1]:.3f}')
