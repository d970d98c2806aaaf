"""Learned step sizes: the quantiser's numbers, and quantised models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import abstract
from train import models
from train.models import quantize
from train.models.quantize import (
  codes,
  gradient_scale,
  initial_step,
  layers,
  lsq,
)

V = [-1.31, -0.62, -0.25, -0.11, 0, 0.04, 0.31, 0.55, 0.93, 2]
U = [0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8, 0.9, -1]
RELU_V = [0, 0, 0.07, 0.33, 0.52, 0.81, 1.73, 3.6]
RELU_U = [0.2, -0.3, 0.5, -0.1, 0.4, -0.6, 0.7, 0.8]
# v, upstream, bits, signed, and what the step is 0.2 for: the first step, the
# values, the gradients of v and s, and the factor on the latter.
NUMBERS = {
  'W4': (
    (V, U, 4, True),
    0.4626285149632941,
    [-1.4, -0.6, -0.2, -0.2, 0, 0, 0.4, 0.6, 1, 1.4],
    [*U[:-1], 0],
    -0.7482131094433304,
    0.11952286093343936,
  ),
  'W2': (
    (V, U, 2, True),
    1.224,
    [-0.4, -0.4, -0.2, -0.2, 0, 0, 0.2, 0.2, 0.2, 0.2],
    [0, 0, 0.3, -0.4, 0.5, -0.6, 0, 0, 0, 0],
    0.11858541225631422,
    0.31622776601683794,
  ),
  'A4': (
    (RELU_V, RELU_U, 4, False),
    0.4557210404037394,
    [0, 0, 0, 0.4, 0.6, 0.8, 1.8, 3],
    [0, 0, 0.5, -0.1, 0.4, -0.6, 0.7, 0],
    1.1159847109167758,
    0.09128709291752768,
  ),
}
SHAPE = (6, 8, 3)
RESNET = functools.partial(
  models.create,
  'resnet',
  num_classes=5,
  image_shape=SHAPE,
  seed=0,
  widths=(4, 6),
  blocks=(1, 1),
)


def _images(seed=1, batch=4):
  return jax.random.normal(jax.random.key(seed), (batch, *SHAPE))


@functools.cache
def _quantised():
  return quantize.quantize(RESNET(), _images(), weights=2, activations=4)


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('name', sorted(NUMBERS))
def test_the_numbers_of_the_specification(name):
  (v, u, bits, signed), start, values, to_v, to_s, factor = NUMBERS[name]
  low, high = codes(bits, signed)
  scale = gradient_scale(len(v), high)
  v, u, s = jnp.array(v), jnp.array(u), jnp.array(0.2)
  quantised, backward = jax.vjp(
    lambda v, s: lsq(v, s, low=low, high=high, scale=scale), v, s
  )
  np.testing.assert_allclose(initial_step(v, high), start, atol=1e-12)
  np.testing.assert_allclose(scale, factor, atol=1e-12)
  np.testing.assert_allclose(quantised, values, atol=1e-12)
  by_v, by_s = backward(u)
  np.testing.assert_allclose(by_v, to_v, atol=1e-12)
  np.testing.assert_allclose(by_s, to_s, atol=1e-12)
  # The other way to write it: rounding whose gradient is that of no rounding.
  # Its clip gives one half at a bound, so the zeros of A4 are left out.
  straight = lambda x, y: x + jax.lax.stop_gradient(y - x)

  def by_hand(v, s):
    step = s * scale + jax.lax.stop_gradient(s * (1 - scale))
    inner = jnp.clip(v / step, low, high)
    return straight(inner, jnp.round(inner)) * step

  quantised, backward = jax.vjp(by_hand, v, s)
  np.testing.assert_allclose(quantised, values, atol=1e-12)
  by_v, by_s = backward(u)
  away = (v / s != low) & (v / s != high)
  np.testing.assert_allclose(by_v[away], np.array(to_v)[away], atol=1e-12)
  np.testing.assert_allclose(by_s, to_s, atol=1e-12)


def test_codes():
  assert codes(4, True) == (-8, 7) and codes(4, False) == (0, 15)
  assert codes(2, True) == (-2, 1)
  for bits, signed in ((1, True), (0, False), (17, True)):
    with pytest.raises(ValueError, match='Give a whole number of bits'):
      codes(bits, signed)
  with pytest.raises(ValueError, match='Give a scalar'):
    lsq(jnp.ones(3), jnp.ones(3), low=0, high=3, scale=1.0)


def test_float32_agrees_and_ties_at_a_bound_have_no_gradient():
  (v, u, bits, signed), _, values, to_v, to_s, _ = NUMBERS['W4']
  low, high = codes(bits, signed)
  quantised, backward = jax.vjp(
    lambda v, s: lsq(v, s, low=low, high=high, scale=gradient_scale(10, high)),
    jnp.array(v, jnp.float32),
    jnp.float32(0.2),
  )
  np.testing.assert_allclose(quantised, values, rtol=1e-6)
  for found, expected in zip(
    backward(jnp.array(u, jnp.float32)), (to_v, to_s), strict=True
  ):
    np.testing.assert_allclose(found, expected, rtol=2e-6)
  bounds = jnp.array([-2.0, 1.0]) * 0.5
  quantise = lambda v, s: lsq(v, s, low=-2, high=1, scale=1.0).sum()
  by_v, by_s = jax.grad(quantise, (0, 1))(bounds, jnp.float32(0.5))
  np.testing.assert_array_equal(by_v, 0)
  np.testing.assert_array_equal(by_s, -2 + 1)


def test_a_step_that_a_perturbation_turns_negative_is_positive_in_use():
  v = jnp.array([-0.75, 0.35, 0.85])
  quantise = functools.partial(lsq, low=-8, high=7, scale=1.0)
  np.testing.assert_allclose(
    quantise(v, jnp.float32(-0.2)), [-0.8, 0.4, 0.8], rtol=1e-6
  )
  loss = lambda s: jnp.sum(quantise(v, s) * jnp.array([1.0, 2.0, 3.0]))
  slope = jax.grad(loss)
  np.testing.assert_allclose(slope(jnp.float32(-0.3)), -slope(jnp.float32(0.3)))
  for s in (0.0, 1e-30):
    values, by_s = jax.value_and_grad(loss)(jnp.float32(s))
    assert np.isfinite(values) and np.isfinite(by_s)
  assert np.abs(quantise(v, jnp.float32(0))).max() <= 8.1e-8


def test_bfloat16_rounds_to_the_codes_of_float32():
  v = jnp.linspace(-2, 2, 301).astype(jnp.bfloat16)
  quantised = lsq(v, jnp.float32(0.0157), low=-128, high=127, scale=1.0)
  assert quantised.dtype == jnp.bfloat16
  exact = lsq(
    v.astype(jnp.float32), jnp.float32(0.0157), low=-128, high=127, scale=1.0
  )
  np.testing.assert_array_equal(quantised, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize('count_batch', [False, True])
def test_both_readings_of_the_number_of_features(count_batch):
  layer = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
  x = jnp.abs(jax.random.normal(jax.random.key(1), (4, 3)))
  kernel = layer.kernel[...]
  quantize.quantize(
    layer, x, weights=4, activations=4, ends=4, count_batch=count_batch
  )
  quantiser = layer.promote_dtype
  assert quantiser.input_codes == (0, 15)

  def unscaled(input_step):
    weights = lsq(kernel, quantiser.weight_step[...], low=-8, high=7, scale=1.0)
    return (lsq(x, input_step, low=0, high=15, scale=1.0) @ weights).sum()

  step = quantiser.input_step[...]
  factor = gradient_scale(12 if count_batch else 3, 15)
  expected = factor * jax.grad(unscaled)(step)
  view = models.functional(layer)
  grads = jax.grad(
    lambda params: view.apply(params, view.statistics, x, True)[0].sum()
  )(view.params)
  found = grads['promote_dtype']['input_step']
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_quantised_model_keeps_its_parameters_and_gains_two_per_layer():
  plain, model = models.functional(RESNET()), _quantised()
  quantised = models.functional(model)
  found = {
    jax.tree_util.keystr(path): leaf
    for path, leaf in jax.tree.leaves_with_path(quantised.params)
  }
  for path, leaf in jax.tree.leaves_with_path(plain.params):
    np.testing.assert_array_equal(found.pop(jax.tree_util.keystr(path)), leaf)
  # Stem, two blocks of two, one shortcut, head.
  assert len(found) == 2 * 7
  assert all(leaf.shape == () and leaf > 0 for leaf in found.values())
  found = {
    jax.tree_util.keystr(path): leaf
    for path, leaf in jax.tree.leaves_with_path(quantised.statistics)
  }
  for path, leaf in jax.tree.leaves_with_path(plain.statistics):
    np.testing.assert_array_equal(found.pop(jax.tree_util.keystr(path)), leaf)
  assert len(found) == 7 and all("['signed']" in path for path in found)


def test_the_ends_have_eight_bits_and_inputs_the_sign_that_they_need():
  found = quantize.quantisers(_quantised())
  assert found['stem_conv',].weight_codes == codes(8, True)
  assert found['stem_conv',].input_codes == codes(8, True)
  assert found['head',].weight_codes == codes(8, True)
  assert found['head',].input_codes == codes(8, False)
  for path, quantiser in found.items():
    if path[0] == 'blocks':
      assert quantiser.weight_codes == (-2, 1), path
      assert quantiser.input_codes == (0, 15), path


def test_steps_start_from_the_weights_and_the_first_batch():
  model = RESNET()
  found = quantize.quantisers(_quantised())
  stem = found['stem_conv',]
  kernel = model.stem_conv.kernel[...]
  np.testing.assert_allclose(
    stem.weight_step[...], initial_step(kernel, 127), rtol=1e-6
  )
  np.testing.assert_allclose(
    stem.input_step[...], initial_step(_images(), 127), rtol=1e-6
  )
  # The second layer sees what the quantised first one gives.
  features = jax.lax.conv_general_dilated(
    lsq(_images(), stem.input_step[...], low=-128, high=127, scale=1.0),
    lsq(kernel, stem.weight_step[...], low=-128, high=127, scale=1.0),
    (1, 1),
    ((1, 1), (1, 1)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  normal = (features - features.mean((0, 1, 2), keepdims=True)) / jnp.sqrt(
    features.var((0, 1, 2), keepdims=True) + 1e-5
  )
  np.testing.assert_allclose(
    found['blocks', 0, 'conv1'].input_step[...],
    initial_step(jax.nn.relu(normal), 15),
    rtol=1e-4,
  )


def test_a_quantised_kernel_has_few_values_and_every_step_a_gradient():
  view = models.functional(_quantised())
  apply = jax.jit(view.apply, static_argnums=3)
  block = view.params['blocks'][0]['conv1']
  step = block['promote_dtype']['weight_step']
  values = lsq(block['kernel'], step, low=-2, high=1, scale=1.0)
  assert set(np.unique(np.round(values / step))) <= {-2, -1, 0, 1}
  # A weight that moves and keeps its code changes nothing.
  moved = jax.tree.map(jnp.asarray, view.params)
  moved['blocks'][0]['conv1']['kernel'] = values
  args = view.statistics, _images(2), False
  np.testing.assert_allclose(
    apply(view.params, *args)[0], apply(moved, *args)[0], rtol=1e-5, atol=1e-6
  )

  def loss(params):
    logits, _ = view.apply(params, view.statistics, _images(2), True)
    return jnp.mean(jnp.square(logits - 1.0))

  for path, grad in jax.tree.leaves_with_path(
    jax.jit(jax.grad(loss))(view.params)
  ):
    assert np.isfinite(grad).all() and np.any(np.asarray(grad) != 0), path


def test_the_share_of_flipped_codes():
  model = _quantised()
  params = models.functional(model).params
  codes_of = {
    path: quantiser.weight_codes
    for path, quantiser in quantize.quantisers(model).items()
  }
  assert quantize.flipped(params, params, codes_of) == 0
  others = jax.tree.map(jnp.asarray, params)
  head = others['head']
  step = head['promote_dtype']['weight_step']
  # Away from the bounds, so that one step is one code.
  moved = head['kernel'].at[:2, :3].set(0.0)
  params['head']['kernel'] = moved
  others['head']['kernel'] = moved.at[:2, :3].set(step)
  sizes = sum(layers.at(params, path)['kernel'].size for path in codes_of)
  np.testing.assert_allclose(
    quantize.flipped(params, others, codes_of), 6 / sizes, rtol=1e-6
  )


@pytest.mark.parametrize(
  ('name', 'options', 'layers'),
  [
    ('mobilenet', {'widths': (8, 12), 'blocks': (1, 1)}, 6),
    ('mlp', {'hidden': (7,)}, 2),
    ('pyramidnet', {'depth': 8, 'alpha': 10}, None),
    ('vgg', {'widths': (4, 6), 'blocks': (1, 1)}, 3),
    ('vit', {'patch': 2, 'width': 8, 'depth': 1, 'heads': 2}, 8),
  ],
)
def test_every_kind_of_model(name, options, layers, request):
  if name == 'vit':  # JAX's attention promotes by itself.
    request.getfixturevalue('standard_promotion')
  model = models.create(
    name, num_classes=5, image_shape=SHAPE, seed=0, **options
  )
  quantize.quantize(model, _images(), weights=4, activations=4)
  found = quantize.quantisers(model)
  assert layers is None or len(found) == layers
  view = models.functional(model)
  logits = jax.eval_shape(
    lambda images: view.apply(view.params, view.statistics, images, True)[0],
    _images(),
  )
  assert logits.shape == (4, 5) and logits.dtype == jnp.float32
  if name == 'pyramidnet':  # BatchNorm without ReLU before a convolution.
    assert found['blocks', 0, 'conv1'].input_codes.low < 0
  with pytest.raises(ValueError, match='quantised already'):
    quantize.quantize(model, _images(), weights=4, activations=4)


@pytest.mark.parametrize(
  ('build', 'steps', 'size'),
  [
    (
      functools.partial(
        models.ResNet, widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2)
      ),
      42,
      11_173_962,
    ),
    (models.MobileNet, 56, 3_217_226),
  ],
)
def test_the_published_networks_have_two_steps_for_each_layer(
  build, steps, size
):
  model = abstract.module(
    functools.partial(build, num_classes=10, image_shape=(32, 32, 3))
  )
  assert abstract.size(model) == size
  assert 2 * len(list(layers._layers(model))) == steps


def test_a_model_without_layers_is_refused():
  with pytest.raises(ValueError, match='no convolution and no dense layer'):
    quantize.quantize(
      nnx.BatchNorm(3, rngs=nnx.Rngs(0)), _images(), weights=4, activations=4
    )
