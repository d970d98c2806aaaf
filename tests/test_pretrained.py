"""Weights in timm's layout, against timm's ViT written out in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import numpy as safetensors
from scipy import special

from train import models

# Oblong, so that rows and columns cannot be taken for each other.
SHAPE = (4, 6, 3)
OPTIONS = {'patch': 2, 'width': 8, 'depth': 2, 'heads': 2, 'mlp': 12}
CLASSES = 5
SMALL = ('cls_token', 'pos_embed', 'patch_embed')


@functools.cache
def _tensors():
  """Every tensor of timm's VisionTransformer of these sizes, drawn."""
  width, mlp, patch = OPTIONS['width'], OPTIONS['mlp'], OPTIONS['patch']
  shapes = {
    'cls_token': (1, 1, width),
    'pos_embed': (1, 2 * 3 + 1, width),
    'patch_embed.proj.weight': (width, 3, patch, patch),
    'patch_embed.proj.bias': (width,),
    'norm.weight': (width,),
    'norm.bias': (width,),
    'head.weight': (CLASSES, width),
    'head.bias': (CLASSES,),
  }
  for i in range(OPTIONS['depth']):
    for name, size in {
      'norm1': (width,),
      'attn.qkv': (3 * width, width),
      'attn.proj': (width, width),
      'norm2': (width,),
      'mlp.fc1': (mlp, width),
      'mlp.fc2': (width, mlp),
    }.items():
      shapes[f'blocks.{i}.{name}.weight'] = size
      shapes[f'blocks.{i}.{name}.bias'] = size[:1]
  rng = np.random.default_rng(0)
  tensors = {
    name: rng.normal(size=shape).astype(np.float32) * 0.7
    for name, shape in shapes.items()
  }
  # Tokens so small that the epsilon of the first LayerNorm is seen.
  small = [name for name in shapes if name.split('.')[0] in SMALL]
  return {**tensors, **{name: 0.005 * tensors[name] for name in small}}


@pytest.fixture
def save(tmp_path):
  """Writes the tensors, changed, and gives the file's path."""

  def write(leave_out=(), **changes):
    tensors = {k: v for k, v in _tensors().items() if k not in leave_out}
    path = tmp_path / 'model.safetensors'
    safetensors.save_file({**tensors, **changes}, path)
    return str(path)

  return write


def _timm(images):
  """The forward pass of timm's VisionTransformer; images are NCHW."""
  t = {name: tensor.astype(np.float64) for name, tensor in _tensors().items()}
  width, heads = OPTIONS['width'], OPTIONS['heads']

  def linear(x, name):
    return x @ t[f'{name}.weight'].T + t[f'{name}.bias']

  def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)
    return x * t[f'{name}.weight'] + t[f'{name}.bias']

  def attention(x, name):
    batch, tokens, _ = x.shape
    qkv = linear(x, f'{name}.qkv')
    qkv = qkv.reshape(batch, tokens, 3, heads, width // heads)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(-2, -1) * (width // heads) ** -0.5
    y = special.softmax(scores, axis=-1) @ v
    y = y.transpose(0, 2, 1, 3).reshape(batch, tokens, width)
    return linear(y, f'{name}.proj')

  def gelu(x):
    return x * 0.5 * (1 + special.erf(x / np.sqrt(2)))

  kernel = t['patch_embed.proj.weight']
  rows = []
  for i in range(0, images.shape[2], 2):
    for j in range(0, images.shape[3], 2):
      patch = images[:, :, i : i + 2, j : j + 2]
      rows.append(np.einsum('bchw,dchw->bd', patch, kernel))
  x = np.stack(rows, axis=1) + t['patch_embed.proj.bias']
  token = np.broadcast_to(t['cls_token'], (len(x), 1, width))
  x = np.concatenate([token, x], axis=1) + t['pos_embed']
  for i in range(OPTIONS['depth']):
    name = f'blocks.{i}'
    x = x + attention(norm(x, f'{name}.norm1'), f'{name}.attn')
    hidden = gelu(linear(norm(x, f'{name}.norm2'), f'{name}.mlp.fc1'))
    x = x + linear(hidden, f'{name}.mlp.fc2')
  return linear(norm(x, 'norm')[:, 0], 'head')


def _params(num_classes=CLASSES, image_shape=SHAPE, **options):
  """The parameters of a model that has shapes and no arrays."""
  model = nnx.eval_shape(
    lambda: models.ViT(
      num_classes, image_shape, **{**OPTIONS, **options}, rngs=nnx.Rngs(0)
    )
  )
  return models.functional(model).params


def test_a_vit_computes_what_timm_computes(save):
  model = models.create(
    'vit',
    num_classes=CLASSES,
    image_shape=SHAPE,
    seed=0,
    pretrained=save(),
    **OPTIONS,
  )
  view = models.functional(model)
  images = np.random.default_rng(1).normal(size=(3, *SHAPE))
  logits, _ = jax.jit(view.apply, static_argnums=3)(
    view.params, view.statistics, jnp.asarray(images, jnp.float32), False
  )
  expected = _timm(images.transpose(0, 3, 1, 2))
  np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=2e-5)


def test_every_tensor_is_read_into_its_shape(save):
  model = _params()
  loaded = models.load_timm_vit(model, save())
  described = functools.partial(jax.tree.map, lambda a: (a.shape, a.dtype))
  assert described(loaded) == described(model)
  numbers = lambda tree: np.sort(
    np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
  )
  np.testing.assert_array_equal(numbers(loaded), numbers(_tensors()))


def test_a_head_of_other_classes_stays_as_it_was(save):
  model = _params(num_classes=7)
  loaded = models.load_timm_vit(model, save())
  assert loaded['head'] is model['head']
  np.testing.assert_array_equal(loaded['token'], _tensors()['cls_token'])


@pytest.mark.parametrize(
  ('file', 'model', 'message'),
  [
    (
      {'leave_out': ['norm.bias']},
      {},
      'it lacks norm.bias, and the model has no place for nothing',
    ),
    (
      {'dist_token': np.zeros((1, 1, 8), np.float32)},
      {},
      'it lacks nothing, and the model has no place for dist_token',
    ),
    ({}, {'depth': 1}, r'no place for blocks\.1\.attn.* and 6 more'),
    ({}, {'pool': 'mean'}, 'no place for cls_token'),
    ({}, {'representation': 8}, 'it lacks pre_logits.fc.bias'),
    (
      {},
      {'image_shape': (4, 8, 3)},
      r'pos_embed of shape \(1, 7, 8\) where the model has \(1, 9, 8\)',
    ),
    (
      {},
      {'mlp': 16},
      r'mlp\.fc1\.weight of shape \(12, 8\) where .* \(16, 8\)',
    ),
  ],
)
def test_a_file_that_does_not_fit(save, file, model, message):
  path = save(**file)
  with pytest.raises(ValueError, match=message):
    models.load_timm_vit(_params(**model), path)


def test_what_is_no_file_of_weights(tmp_path):
  params = {'patches': {}}
  path = tmp_path / 'weights.safetensors'
  with pytest.raises(ValueError, match='Cannot read the weights'):
    models.load_timm_vit(params, path)
  path.write_bytes(b'not such a file')
  with pytest.raises(ValueError, match='Give a .safetensors file'):
    models.load_timm_vit(params, path)
  with pytest.raises(ValueError, match="Create the model 'vit'"):
    models.load_timm_vit({'stem_conv': {}}, path)
