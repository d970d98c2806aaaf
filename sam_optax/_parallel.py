"""A method on many devices: `parallel`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sam_optax import _base, _check, _check_chain, _collectives, _given
from sam_optax._method import SharpnessAware


def parallel(
  method: SharpnessAware,
  axis_name: str | Sequence[str] | None = 'batch',
  perturbation: str = 'local',
  examples_per_perturbation: int | None = None,
) -> SharpnessAware:
  r"""A method inside `jax.pmap` or `jax.shard_map`, on the device's own batch.

  Each device gives the method its own part of the batch, and a `grad_fn` or
  `loss_fn` of that part alone. Average nothing yourself: the method does it.
  With `perturbation='local'` each device perturbs along its own gradient (the
  m-sharpness of the papers, with m the number of examples on a device), and the
  directions are averaged:

  .. math::
    \epsilon_k = \epsilon(\nabla L_k(w)), \qquad
    G = \text{mean}_k\, G(\nabla L_k(w), \nabla L_k(w + \epsilon_k))

  With `'synced'` every gradient is averaged before it is used, and the step is
  the same as on one device with the whole batch. Under plain `jax.jit` with a
  batch that is sharded over devices you need no wrapper: there every step is
  synced.

  The returned gradient and the state are the same on all devices. States and
  decisions follow averaged gradients: the average of F-SAM, the PSF and
  probability of ARSAM, the direction of LookSAM. A plain step descends along
  the averaged gradient. With `'local'`, ascent and selection draw for each
  device; the cadence draws once for all. AUSAM and ESAM choose from the
  examples of each device with `'local'`, and from the whole batch with
  `'synced'`, whose examples then travel between devices. The tables of
  examples are common, with the ids of the whole data set.

  `value_and_grad` returns the mean loss over devices, and the aux of each
  device: average BatchNorm statistics yourself. In `jax.shard_map` with
  check_vma=True, JAX sums the gradient by replicated parameters over the
  devices, and the per-device gradient cannot be recovered from `updates`. The
  method then evaluates `grad_fn` again, and `jax.jit` drops the computation of
  `updates`.

  Args:
    method: a method, from `sharpness_aware` or an alias.
    axis_name: the axis or axes of devices that the batch is spread over. None
      on one device, or under plain `jax.jit`, with examples_per_perturbation.
    perturbation: `'local'` or `'synced'`.
    examples_per_perturbation: m, the number of examples that share one
      perturbation, for an m that does not depend on the number of devices. The
      batch of a device is split into groups of m, in order, each as if on a
      device of its own, and every leaf of aux gets a leading axis of groups.
      Both entry points then need `loss_fn` and `batch`.

  Returns:
    A `SharpnessAware` with the state of `method`. Its `first_pass` is None: a
    cadence that decides by the gradient decides on the devices.

  Raises:
    ValueError: if the arguments cannot work together.

  Example:
    >>> import jax, jax.numpy as jnp, sam_optax
    >>> method = sam_optax.parallel(sam_optax.sam(rho=0.1), 'devices')
    >>> w, batch = jnp.array([1.0, -2.0]), jnp.ones((1, 4, 2))
    >>> def step(w, state, batch):  # batch is the device's own
    ...   grad_fn = jax.grad(lambda w: jnp.mean((batch @ w) ** 2))
    ...   return method.update(grad_fn(w), state, w, grad_fn=grad_fn)
    >>> run = jax.pmap(step, 'devices', in_axes=(None, None, 0))
    >>> grads, state = run(w, method.init(w), batch)

  References:
    Foret et al., `Sharpness-Aware Minimization for Efficiently Improving
    Generalization <https://arxiv.org/abs/2010.01412>`_, 2021, section 4.1
    (m-sharpness), and the released code.
  """
  if not isinstance(method, SharpnessAware):
    raise ValueError(
      f'Given a {type(method).__name__}. Only the method itself can average '
      'its gradients. Wrap it first and chain the rest after it: '
      'optax.chain(sam_optax.parallel(sam_optax.sam()), optax.sgd(0.1)).'
    )
  if method.is_parallel or method.for_collectives is None:
    raise ValueError(
      'Given a method that is parallel already. It would be averaged twice. '
      'Name all axes at once: axis_name=(outer, inner).'
    )
  _check.one_of('perturbation', perturbation, ('local', 'synced'))
  size = examples_per_perturbation
  if size is not None:
    _check.number(
      'examples_per_perturbation',
      size,
      1,
      static=True,
      why='it is a number of examples',
      whole=True,
    )
    if perturbation == 'synced':
      raise ValueError(
        'Given examples_per_perturbation and perturbation="synced", which is '
        'one perturbation for the whole batch. Leave one of them out.'
      )
  if axis_name is None and size is None:
    raise ValueError(
      'Given neither axis_name nor examples_per_perturbation. Then nothing is '
      'parallel. Name the axis of pmap or shard_map, or use the method as it '
      'is.'
    )
  axes = _axes(axis_name)
  collectives = _collectives.Collectives(axes, perturbation == 'local')
  on_devices = method.for_collectives(collectives)

  def update(updates, state, params=None, **extra_args) -> Any:
    probe = extra_args.get('grad_fn')
    if isinstance(probe, _check_chain.Probe):
      return probe.answer(updates), state
    _check_bound(axes)
    if size is None:
      return on_devices.update(updates, state, params, **extra_args)
    given = {
      name: extra_args.get(name)
      for name in ('reference_grad_fn', 'perturb', 'full_batch')
      if extra_args.get(name) is not None
    }
    loss_fn, batch = extra_args.get('loss_fn'), extra_args.get('batch')
    if params is None or loss_fn is None or batch is None:
      raise ValueError(
        'Given no params, loss_fn or batch. With examples_per_perturbation the '
        'batch is split, and grad_fn has no batch to split. Call '
        'tx.update(grads, opt_state, params, loss_fn=loss_fn, batch=batch), '
        'with loss_fn(params, batch) -> (losses of shape [batch], aux).'
      )
    _check.not_masked(params)
    params = _given.params(params)
    updates = _given.gradient('`updates`', updates, params)
    _, grads, state = value_and_grad(
      loss_fn, params, state, batch, extra_args.get('example_ids'), **given
    )
    return optax.tree.cast_like(grads, updates), state

  def value_and_grad(
    loss_fn,
    params,
    state,
    batch,
    example_ids=None,
    *,
    prepare=None,
    **options,
  ):
    _check_bound(axes)
    if size is None:
      return on_devices.value_and_grad(
        loss_fn, params, state, batch, example_ids, prepare=prepare, **options
      )
    # Before the split, or all groups would be prepared by the same draws.
    batch = batch if prepare is None else prepare(batch)
    if example_ids is not None:
      example_ids = _given.example_ids(example_ids)
    number = _given.rows(
      batch,
      None if example_ids is None else len(example_ids),
      'examples_per_perturbation splits every leaf into groups',
    )
    batch, example_ids = _split((batch, example_ids), number, int(size))
    groups = number // int(size)

    def on_group(group, batch, ids):
      own = method.for_collectives(
        collectives._replace(groups=groups, group=group)
      )
      return own.value_and_grad(loss_fn, params, state, batch, ids, **options)

    return jax.vmap(on_group, out_axes=((None, 0), None, None))(
      jnp.arange(groups), batch, example_ids
    )

  return method._replace(  # pyright: ignore[reportPrivateUsage]
    update=update,
    value_and_grad=value_and_grad,
    first_pass=None,
    perturbed_params=on_devices.perturbed_params,
    is_parallel=True,
  )


def _axes(axis_name: Any) -> tuple[str, ...]:
  """The names of the axes; none where the argument is None."""
  if axis_name is None:
    return ()
  axes: Any = (axis_name,) if isinstance(axis_name, str) else axis_name
  if (
    not isinstance(axes, Sequence)
    or not axes
    or not all(isinstance(axis, str) and axis for axis in axes)
  ):
    raise ValueError(
      f'Given axis_name={axis_name!r}. The devices are averaged over axes that '
      "have names. Pass 'batch' or ('outer', 'inner'), as in jax.pmap(..., "
      "axis_name='batch') or jax.make_mesh; or None."
    )
  return tuple(axes)


def _check_bound(axes: tuple[str, ...]) -> None:
  for axis in axes:
    try:
      jax.lax.axis_size(axis)
    except NameError as error:
      raise ValueError(
        f'Given axis_name={axis!r}, and no such axis here. The average over '
        'devices needs it. Call the method inside jax.pmap(..., '
        f'axis_name={axis!r}) or jax.shard_map over a mesh with that axis; '
        'under plain jax.jit use the method without parallel.'
      ) from error


def _split(tree: _base.PyTree, number: int, size: int) -> _base.PyTree:
  """Rows [number] as [number / size, size]."""
  if number % size or not number:
    raise ValueError(
      f'Given a batch of {number} examples on a device, and '
      f'examples_per_perturbation={size}. It cannot be split into such groups. '
      'Use a divisor of the batch; leave a step without examples out.'
    )
  return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), tree)
