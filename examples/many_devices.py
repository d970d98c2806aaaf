"""Many devices: one perturbation for all of them, or one for each.

Under `jax.jit` with a sharded batch, the step of one device runs unchanged: all
devices perturb along the gradient of the whole batch. Inside `jax.pmap` (or
`jax.shard_map`), `sam_optax.parallel` averages over the devices, and each
device perturbs along the gradient of its own examples, as in the papers.
"""

# %% Four devices, made from one CPU
import os

# On a machine with several GPUs or TPU cores, leave this line out.
os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=4')

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sklearn import datasets

import sam_optax

x, y = datasets.load_digits(return_X_y=True)
num_devices = jax.device_count()
# Each device takes as many examples as the others, so up to num_devices - 1 of
# the 1,797 are dropped. A loop over epochs would drop other ones in each.
kept = len(x) // num_devices * num_devices
x, y = x[:kept].astype(np.float32) / 16, y[:kept]
print(f'{num_devices} devices, {len(x) // num_devices} examples on each')


# %% A linear classifier, and one step
def loss(params, x, y):
  logits = x @ params['w'] + params['b']
  return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def make_step(method):
  tx = optax.chain(method, optax.sgd(0.5, momentum=0.9))

  def step(params, opt_state, x, y):
    grad_fn = jax.grad(lambda params: loss(params, x, y))
    updates, opt_state = tx.update(
      grad_fn(params), opt_state, params, grad_fn=grad_fn
    )
    return optax.apply_updates(params, updates), opt_state

  params = {'w': jnp.zeros((64, 10)), 'b': jnp.zeros(10)}
  return step, params, tx.init(params)


def train(step, params, opt_state, x, y):
  losses = [loss(params, *whole)]
  for _ in range(100):
    params, opt_state = step(params, opt_state, x, y)
    losses.append(loss(params, *whole))
  return {'training loss': np.array(losses)}


# %% Route 1: jit, and a sharded batch
whole = jnp.asarray(x), jnp.asarray(y)
step, params, opt_state = make_step(sam_optax.sam(rho=0.1))
one = train(jax.jit(step), params, opt_state, *whole)

mesh = jax.make_mesh((num_devices,), ('batch',), axis_types=(AxisType.Auto,))
rows = NamedSharding(mesh, PartitionSpec('batch'))
everywhere = NamedSharding(mesh, PartitionSpec())
params, opt_state = jax.device_put((params, opt_state), everywhere)
jit = train(jax.jit(step), params, opt_state, *jax.device_put((x, y), rows))

# %% Route 2: pmap, and a perturbation for each device
method = sam_optax.parallel(sam_optax.sam(rho=0.1), 'batch')
step, params, opt_state = make_step(method)
step = jax.pmap(step, 'batch', in_axes=(None, None, 0, 0), out_axes=None)
split = [a.reshape(num_devices, -1, *a.shape[1:]) for a in whole]
pmap = train(step, params, opt_state, *split)

# %% The same step, and another one
histories = {'one device': one, 'jit, sharded': jit, 'pmap, local': pmap}
for name, history in histories.items():
  losses = history['training loss']
  print(f'{name}: training loss {losses[0]:.4f} -> {losses[-1]:.4f}')
