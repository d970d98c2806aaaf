"""The heads of segmentation and pose on small backbones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import abstract
from tests.dense_networks import SMALL, seeded
from train import models
from train.models import dense, quantize
from train.models.backbones.hrnet import HRNet
from train.models.composed import Composed
from train.models.heads.segmentation import DeepLabV3Plus, PSPNet
from train.models.heads.simcc import SimCC

SMALL_HRNET = functools.partial(
  HRNet, (64, 32, 3), 4, (1, 1, 1), 1, stem_width=4, stem_blocks=1
)


def _with_head(backbone, head, **options):
  def build(rngs):
    base = backbone(rngs=rngs)
    return Composed(base, head(base.feature_widths, rngs=rngs, **options))

  return build


def _simcc(backbone, joints, image_shape, split):
  def build(rngs):
    base = backbone(image_shape, rngs=rngs)
    strides = base.feature_strides
    head = SimCC(
      base.feature_widths, strides, joints, image_shape, split, rngs=rngs
    )
    return Composed(base, head)

  return build


def _compiled(view, parts, also=None):
  """A network compiled twice, for training and for testing.

  Args:
    view: the network.
    parts: outputs -> the arrays of the loss.
    also: images -> what the second function returns beside the outputs.

  Returns:
    ((statistics, images) -> ((outputs, statistics), gradient), images ->
    outputs).
  """

  @jax.jit
  def step(statistics, images):
    def loss(params):
      outputs, after = view.apply(params, statistics, images, True)
      terms = [jnp.mean(jnp.square(x - 1.0)) for x in parts(outputs)]
      return sum(terms), (outputs, after)

    grads, results = jax.grad(loss, has_aux=True)(view.params)
    return results, grads

  @jax.jit
  def apply(images):
    outputs, _ = view.apply(view.params, view.statistics, images, False)
    return outputs if also is None else (outputs, also(images))

  return step, apply


@pytest.mark.parametrize(
  ('head', 'options', 'output_stride'),
  [
    (PSPNet, {'width': 8, 'auxiliary_width': 4}, 8),
    (PSPNet, {'width': 8, 'auxiliary_width': 0}, 8),
    (DeepLabV3Plus, {'width': 8, 'rates': (1, 2, 3), 'low_width': 4}, 16),
    (
      DeepLabV3Plus,
      {
        'width': 8,
        'rates': (1, 2),
        'convolutions': 2,
        'decoder_dropout': (0.5, 0.1),
        'align_corners': True,
      },
      8,
    ),
  ],
)
def test_segmentation_gives_logits_for_each_pixel(head, options, output_stride):
  backbone = functools.partial(SMALL, output_stride=output_stride)
  build = _with_head(backbone, head, num_classes=3, **options)
  view = models.functional(seeded(build))
  step, apply = _compiled(view, lambda maps: jax.tree.leaves(maps))
  images = jax.random.normal(jax.random.key(1), (2, 33, 41, 3))
  (maps, statistics), grads = step(view.statistics, images)
  assert maps.logits.shape == (2, 33, 41, 3)
  assert maps.logits.dtype == jnp.float32 and np.isfinite(maps.logits).all()
  has_auxiliary = options.get('auxiliary_width', 0) > 0
  assert (maps.auxiliary is not None) == has_auxiliary
  if has_auxiliary:
    assert maps.auxiliary.shape == maps.logits.shape
  # Training drops, and not alike in the next step.
  (later, _), _ = step(statistics, images)
  assert np.any(later.logits != maps.logits)
  first, again = apply(images), apply(images[::-1])
  np.testing.assert_allclose(
    first.logits, again.logits[::-1], rtol=1e-4, atol=1e-5
  )
  for path, grad in jax.tree.leaves_with_path(grads):
    assert np.isfinite(grad).all() and np.any(np.asarray(grad) != 0), path


def test_a_decoder_has_one_dropout_for_each_convolution():
  build = _with_head(
    SMALL, DeepLabV3Plus, num_classes=3, decoder_dropout=(0.5, 0.1)
  )
  with pytest.raises(ValueError, match='each convolution has one dropout'):
    abstract.module(build)


def test_simcc_gives_logits_for_each_bin():
  shape = 64, 32, 3
  backbone = lambda image_shape, rngs: SMALL_HRNET(rngs=rngs)
  model = seeded(_simcc(backbone, 5, shape, 3))
  view = models.functional(model)
  model.eval()
  step, apply = _compiled(
    view, list, lambda x: model.head.maps(model.backbone.features(x)[-1])
  )
  images = jax.random.normal(jax.random.key(1), (2, *shape))
  (logits, _), grads = step(view.statistics, images)
  assert logits.x.shape == (2, 5, 32 * 3) and logits.y.shape == (2, 5, 64 * 3)
  assert logits.x.dtype == logits.y.dtype == jnp.float32

  # The same dense layers for every joint, over its own map.
  head = view.params['head']
  logits, maps = apply(images)
  flat = maps[..., 2].reshape(2, -1)
  np.testing.assert_allclose(
    logits.y[:, 2],
    flat @ head['y']['kernel'] + head['y']['bias'][None],
    rtol=1e-3,
    atol=1e-4,
  )
  for path, grad in jax.tree.leaves_with_path(grads):
    assert np.isfinite(grad).all() and np.any(np.asarray(grad) != 0), path


@pytest.mark.parametrize(
  ('build', 'message'),
  [
    (functools.partial(HRNet, (64, 48, 3)), 'multiples of 32'),
    (
      functools.partial(SimCC, (4,), (4,), 16, (62, 64, 3)),
      'Give multiples of 4',
    ),
    (
      functools.partial(SMALL, first_dilation='none'),
      'Use one of stage, previous',
    ),
  ],
)
def test_what_cannot_be_built(build, message):
  with pytest.raises(ValueError, match=message):
    abstract.module(build)


def test_bfloat16_computes_and_logits_are_float32():
  def build(dtype, rngs):
    base = SMALL(output_stride=8, dtype=dtype, rngs=rngs)
    return Composed(
      base,
      PSPNet(
        base.feature_widths, 3, width=8, dropout=0.0, dtype=dtype, rngs=rngs
      ),
    )

  images = jax.random.normal(jax.random.key(1), (2, 33, 41, 3))
  maps = []
  for dtype in (None, 'bfloat16'):
    model = seeded(functools.partial(build, dtype))
    model.eval()
    maps.append(jax.jit(lambda x, model=model: model(x).logits)(images))
  assert maps[1].dtype == jnp.float32
  error = np.abs(maps[0] - maps[1]).max()
  assert 0 < error < 0.1 * np.abs(maps[0]).max()


def test_heads_are_quantised_like_any_layer():
  build = _with_head(
    functools.partial(SMALL, output_stride=8), PSPNet, num_classes=3, width=8
  )
  model = seeded(build)
  images = jax.random.normal(jax.random.key(1), (2, 33, 41, 3))
  quantize.quantize(model, images, weights=4, activations=4)
  found = quantize.quantisers(model)
  assert len(found) == sum(
    isinstance(layer, nnx.Conv) for _, layer in nnx.iter_modules(model)
  )
  assert found['head', 'pools', 0, 'conv'].weight_codes == (-8, 7)


SMALL_DENSE = {'widths': (4, 6), 'blocks': (1, 1), 'output_stride': 4}
CLASSIFIER = ('classifier', 'classes')


@pytest.mark.parametrize(
  ('build', 'options', 'last'),
  [
    (
      dense.pspnet,
      {'head_width': 8, 'auxiliary_width': 4, **SMALL_DENSE},
      {CLASSIFIER, ('auxiliary', 'classes')},
    ),
    (
      dense.pspnet,
      {'head_width': 8, 'auxiliary_width': 0, **SMALL_DENSE},
      {CLASSIFIER},
    ),
    (
      dense.deeplabv3plus,
      {'head_width': 8, 'rates': (1, 2), **SMALL_DENSE},
      {('classes',)},
    ),
    (
      dense.simcc_hrnet,
      {'split': 2, 'width': 4, 'modules': (1,), 'blocks': 1, 'stem_width': 4},
      {('x',), ('y',)},
    ),
  ],
)
def test_the_layers_of_the_outputs(build, options, last):
  model = abstract.module(
    functools.partial(
      build, 5, image_shape=(16, 24, 3), dtype='bfloat16', **options
    )
  )
  # Near logits do not tie.
  assert {layer.dtype for layer in model.last_layers()} == {jnp.float32}
  quantize.wrap(model, (16, 24, 3), quantize.Settings(2, 4))
  found = quantize.quantisers(model)
  ends = [
    path
    for path, quantiser in found.items()
    if quantiser.weight_codes == quantize.codes(8, True)
  ]
  # They and the first layer have 8 bits.
  heads = {path[1:] for path in ends if path[0] == 'head'}
  assert heads == last and len(ends) == 1 + len(last) < len(found)


@pytest.mark.parametrize(
  ('name', 'outputs', 'options'),
  [
    ('pspnet', {'num_classes': 3}, {'head_width': 8, 'auxiliary_width': 4}),
    ('deeplabv3plus', {'num_classes': 3}, {'head_width': 8, 'rates': [1, 2]}),
    ('simcc_hrnet', {'joints': 5, 'split': 2}, {}),
  ],
)
def test_dense_models_by_name(name, outputs, options):
  small = (
    {'width': 4, 'modules': [1], 'blocks': 1, 'stem_width': 4}
    if 'joints' in outputs
    else {'widths': [4, 6], 'blocks': [1, 1], 'output_stride': 4}
  )
  model = models.create(
    name, **outputs, image_shape=(16, 24, 3), seed=0, **small, **options
  )
  view = models.functional(model)
  images = jnp.zeros((2, 16, 24, 3))
  logits, _ = jax.eval_shape(
    lambda images: view.apply(view.params, view.statistics, images, True),
    images,
  )
  shapes = [x.shape for x in jax.tree.leaves(logits)]
  assert (
    shapes
    == {
      'pspnet': [(2, 16, 24, 3)] * 2,
      'deeplabv3plus': [(2, 16, 24, 3)],
      'simcc_hrnet': [(2, 5, 48), (2, 5, 32)],
    }[name]
  )
  with pytest.raises(ValueError, match='Use one of .*dtype'):
    models.create(name, **outputs, image_shape=(16, 24, 3), seed=0, depth=1)


@pytest.mark.parametrize(
  ('name', 'outputs'),
  [
    ('pspnet', {'joints': 5}),
    ('simcc_hrnet', {'num_classes': 3}),
    ('resnet', {'joints': 5}),
    ('resnet', {}),
  ],
)
def test_a_model_of_another_task_is_refused(name, outputs):
  with pytest.raises(ValueError, match='the task asks for'):
    models.create(name, **outputs, image_shape=(16, 24, 3), seed=0)
