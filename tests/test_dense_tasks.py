"""The rows of segmentation and pose: from examples to losses and scores."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import dense_sets
from train.augment.pipeline import IMAGENET_MEAN, IMAGENET_STD
from train.checks import DataError
from train.data import mpii
from train.data.dense_stream import DenseStream
from train.tasks import metrics, pose, segmentation, simcc, skeletons


class Maps(NamedTuple):
  """What a network of segmentation gives."""

  logits: jax.Array
  auxiliary: Any = None


def _checked(task, dataset):
  """What the engine takes for granted of every row of the table."""
  assert set(task.fields) <= set(dataset.fields)
  for name, field in task.fields.items():
    assert dataset.train[name].shape[1:] == field.shape
    assert dataset.train[name].dtype == field.dtype
  rows = {name: jnp.asarray(x) for name, x in dataset.train.items()}
  key = jax.random.key(3)
  prepare = jax.jit(task.prepare)
  return rows, prepare(key, rows), prepare(None, rows)


def _perfect(masks, num_classes=4):
  known = jnp.where(masks == 255, 0, masks).astype(jnp.int32)
  return 20 * jax.nn.one_hot(known, num_classes)


def test_segmentation_from_rows_to_scores():
  dataset = dense_sets.scenes()
  task = segmentation.row(dataset, crop=9, rotation=10.0)
  rows, batch, test = _checked(task, dataset)
  assert task.outputs(dataset) == {'num_classes': 4}
  assert batch['image'].shape == (6, 9, 9, 3)
  assert batch['mask'].shape == (6, 9, 9) and batch['mask'].dtype == jnp.uint8
  # The test sees whole images as they are.
  np.testing.assert_array_equal(test['mask'], rows['mask'])
  pixels = test['image'] * jnp.array(IMAGENET_STD).reshape(1, 1, 1, 3)
  pixels = 255 * (pixels + jnp.array(IMAGENET_MEAN).reshape(1, 1, 1, 3))
  np.testing.assert_allclose(pixels, rows['image'], atol=1e-3)
  # Its outside is the mean, and so zero.
  outside = np.asarray(batch['mask']) == 255
  assert outside.any() and not outside.all()

  losses = task.losses(Maps(_perfect(batch['mask'])), batch)
  assert losses.shape == (6,) and losses.max() < 1e-6
  scalars = task.scalars(Maps(_perfect(batch['mask'])), batch)
  np.testing.assert_allclose(scalars['pixel_accuracy'], 1)

  valid = jnp.array([1.0, 1, 1, 1, 0, 0])
  sums = jax.jit(task.sums)(Maps(_perfect(test['mask'])), test, valid)
  scores = task.scores(jax.tree.map(np.asarray, sums))
  assert scores['miou'] == 1 and scores['loss'] < 1e-6
  # Four images, without their first row.
  assert sums['matrix'].sum() == 4 * 11 * 16 and sums['count'] == 4
  # Everything is predicted to be class 1.
  constant = jnp.zeros((6, 12, 16, 4)).at[..., 1].set(1.0)
  sums = task.sums(Maps(constant), test, jnp.ones(6))
  scores = task.scores(jax.tree.map(np.asarray, sums))
  counted = rows['mask'][rows['mask'] != 255]
  share = float(np.mean(np.asarray(counted) == 1))
  assert scores['iou_1'] == pytest.approx(share)
  assert scores['miou'] == pytest.approx(share / 4)
  chosen = segmentation.row(dataset, crop=9, classes=(0, 1))
  scores = chosen.scores(jax.tree.map(np.asarray, sums))
  assert scores[task.main.name] == pytest.approx(share / 2)


def test_the_auxiliary_head_counts_in_training_alone():
  dataset = dense_sets.scenes()
  task = segmentation.row(dataset, crop=9)
  _, batch, test = _checked(task, dataset)
  wrong = -_perfect(batch['mask'])
  losses = task.losses(Maps(_perfect(batch['mask']), wrong), batch)
  expected = segmentation.pixel_losses(wrong, batch['mask'])
  np.testing.assert_allclose(losses, 0.4 * expected, rtol=1e-4, atol=1e-6)
  maps = Maps(_perfect(test['mask']), -_perfect(test['mask']))
  sums = task.sums(maps, test, jnp.ones(6))
  assert task.scores(jax.tree.map(np.asarray, sums))['loss'] < 1e-6


@pytest.mark.parametrize('sigma', [None, 3.0])
@pytest.mark.parametrize('flip_test', [False, True])
def test_pose_from_rows_to_scores(sigma, flip_test):
  dataset = dense_sets.people()
  task = pose.row(dataset, sigma=sigma, flip_test=flip_test)
  rows, batch, test = _checked(task, dataset)
  assert task.outputs(dataset) == {'joints': 16, 'split': 2}
  assert batch['image'].shape == (5, 32, 32, 3)
  assert batch['x'].shape == batch['y'].shape == (5, 16, 64)
  assert batch['weight'].shape == (5, 16)
  assert test['image'].shape == ((10 if flip_test else 5), 32, 32, 3)

  def perfect(batch):
    return simcc.Axes(jnp.log(batch['x'] + 1e-9), jnp.log(batch['y'] + 1e-9))

  losses = task.losses(perfect(batch), batch)
  assert losses.shape == (5,)
  # As good as it can be: a Gaussian at the border does not sum to one.
  uniform = simcc.Axes(jnp.zeros((5, 16, 64)), jnp.zeros((5, 16, 64)))
  assert np.all(losses < 0.3 * task.losses(uniform, batch))
  distance = task.scalars(perfect(batch), batch)['distance']
  np.testing.assert_allclose(distance, 0, atol=1e-6)

  logits = perfect(test)
  if flip_test:
    # What a network that is perfect says of the mirror images.
    order = simcc.swapped(16, simcc.MPII_PAIRS)
    mirrored = np.asarray(rows['joints'])[:, order]
    mirrored[..., 0] = 31 - mirrored[..., 0]
    spread = sigma or 1.0
    others = [
      jnp.log(simcc.simcc_targets(jnp.asarray(mirrored[..., i]), 32, 2, spread))
      for i in (0, 1)
    ]
    logits = simcc.Axes(
      *(jnp.concatenate([a, b]) for a, b in zip(logits, others, strict=True))
    )
  valid = jnp.array([1.0, 1, 1, 0, 1])
  sums = jax.jit(task.sums)(logits, test, valid)
  scores = task.scores(jax.tree.map(np.asarray, sums))
  assert scores[task.main.name] == scores['pckh_0.5'] == 1
  assert {'pckh_0.1', 'pckh_0.11', *metrics.MPII_PARTS} <= set(scores)
  assert scores['pckh_0.1'] <= scores['pckh_0.11']
  visible = np.asarray(rows['visible'])[np.array([0, 1, 2, 4])]
  np.testing.assert_array_equal(sums['pckh_0.5'].labelled, visible.sum(0))


def test_a_mirrored_person_has_other_lefts_and_rights():
  dataset = dense_sets.people()
  task = pose.row(dataset, scale=0.0, rotation=0.0)
  rows, batch, test = _checked(task, dataset)
  mirrored = np.asarray(batch['move'].mirrored)
  assert mirrored.any() and not mirrored.all()
  order = simcc.swapped(16, simcc.MPII_PAIRS)
  for number, flipped in enumerate(mirrored):
    visible = np.asarray(rows['visible'][number])
    expected = visible[order] if flipped else visible
    np.testing.assert_array_equal(batch['weight'][number] > 0, expected)
    if not flipped:
      np.testing.assert_allclose(batch['x'][number], test['x'][number])
    else:
      # Down from the middle of the image: 32 - x, two bins a pixel.
      place = simcc.decode(simcc.Axes(batch['x'], batch['y']), 2)[number]
      truth = np.asarray(rows['joints'][number])[order]
      np.testing.assert_allclose(place[:, 0], 32 - truth[:, 0], atol=0.26)
      np.testing.assert_allclose(place[:, 1], truth[:, 1], atol=0.26)


@pytest.mark.parametrize(
  ('build', 'dataset'),
  [
    (lambda dataset: segmentation.row(dataset, crop=9), dense_sets.scenes()),
    (lambda dataset: pose.row(dataset, flip_test=False), dense_sets.people()),
  ],
  ids=['segmentation', 'pose'],
)
def test_the_fields_that_place_an_image_are_marked(build, dataset):
  task = build(dataset)
  rows = {name: jnp.asarray(x) for name, x in dataset.train.items()}
  prepare = jax.jit(lambda rows: task.prepare(None, rows)['image'])
  images = prepare(rows)
  for name, field in task.fields.items():
    filled = prepare({**rows, name: jnp.full_like(rows[name], field.fill)})
    assert np.array_equal(images, filled) != field.places_image, name


def _scored(correct, labelled, **options):
  """The scores of people with so many joints found."""
  task = pose.row(dense_sets.people(joints=len(correct)), **options)
  hits = metrics.Hits(np.array(correct), np.array(labelled))
  names = 'pckh_0.5', 'pckh_0.1', 'pckh_0.11'
  return task.scores({'loss': 1.0, 'count': 1, **dict.fromkeys(names, hits)})


def test_other_joints_than_those_of_mpii_have_no_parts():
  # All are in the mean, of which the 6th and 7th of MPII are left out.
  found = [0] * 6 + [4, 4, 2]
  scores = _scored(found, [4] * 9, pairs=((0, 3), (1, 2)))
  assert set(scores) == {'loss', 'pckh_0.5', 'pckh_0.1', 'pckh_0.11'}
  assert scores['pckh_0.5'] == pytest.approx(10 / 36)
  assert scores == _scored(found, [4] * 9, flip=False, flip_test=False)
  # As many as MPII has: they are MPII's, unless their pairs are others.
  for pairs, has_parts in (
    (((0, 3), (1, 2)), False),
    (simcc.MPII_PAIRS[::-1], True),
    (None, True),
  ):
    scores = _scored([3] * 16, [4] * 16, pairs=pairs)
    assert ('wrist' in scores) == has_parts, pairs


def test_joints_that_are_not_mpii_s_have_none_of_its_names():
  dataset = dense_sets.people()
  dataset = dataset._replace(facts={'joints': 16, 'joint_names': mpii.JOINTS})
  found = {'joints': np.zeros((16, 2)), 'confidence': np.zeros(16)}
  for pairs, name in ((((0, 3),), '0'), (None, 'right ankle')):
    files = pose.row(dataset, pairs=pairs).files
    told = files.tell(found, skeletons.Cut((0, 0), (1, 1)), {}).line['joints']
    assert told[0]['joint'] == name


def test_people_without_the_size_of_a_head_have_no_score():
  with pytest.raises(DataError, match='a head_size above 0'):
    _scored([0] * 16, [0] * 16)
  with pytest.raises(ValueError, match='with data.validation are of the train'):
    pose.row(dense_sets.people(head_size=[np.nan, 0, -1, np.inf, np.nan]))
  row = {name: x[1] for name, x in dense_sets.people().test.items()}
  row['head_size'] = np.float32(np.nan)
  _, predicted = skeletons.draw((), row, {'joints': row['joints']})
  assert predicted.text == 'predicted'


@pytest.mark.parametrize(
  ('joints', 'options', 'message'),
  [
    (5, {}, 'people of 5 joints without pairs'),
    (17, {'flip': False}, 'people of 17 joints without pairs'),
    (16, {'pairs': ((0, 99),)}, 'from 0 to 15'),
    (16, {'pairs': ((0, 1), (1, 2))}, 'one pair at most'),
    (16, {'pairs': (0, 1)}, 'Give such pairs'),
    (16, {'split': 0}, 'a whole number from 1'),
    (16, {'split': 1.5}, 'a whole number from 1'),
    (16, {'scale': 1.5}, 'from 0 to below 1'),
    (16, {'rotation': -30}, 'from 0 to 180'),
    (16, {'smoothing': 1.5}, 'from 0 to below 1'),
    (16, {'mean': (124, 116, 104)}, 'Divide what is of pixels'),
  ],
)
def test_options_of_pose_out_of_range(joints, options, message):
  with pytest.raises(ValueError, match=message):
    pose.row(dense_sets.people(joints=joints), **options)


def test_people_are_not_scaled_beyond_what_is_read_of_them():
  def build(**options):
    # As `train.data.dense_stream.people` cuts them.
    streamed = DenseStream(
      None, None, {'joints': 16}, (64, 64, 3), (114, 114, 3)
    )
    return pose.row(streamed, **options)

  assert build(scale=0.25, rotation=45.0) and build(scale=0.7, rotation=0.0)
  for options in ({'scale': 0.3}, {'scale': 0.8, 'rotation': 0.0}):
    with pytest.raises(ValueError, match='would be black'):
      build(**options)
  pose.row(dense_sets.people(), scale=0.5)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'classes': (0, 4)}, 'from 0 to 3'),
    ({'classes': (0, -1)}, 'from 0 to 3'),
    ({'classes': (1, 1)}, 'each once'),
    ({'classes': ()}, 'None for those that occur'),
    ({'crop': -3}, 'a whole number from 1'),
    ({'crop': 0}, 'a whole number from 1'),
    ({'window': 9.5}, 'a whole number from 1'),
    ({'scale': (0, 1)}, 'two numbers above 0'),
    ({'scale': (2, 1)}, 'two numbers above 0'),
    ({'scale': 1.5}, 'two numbers above 0'),
    ({'rotation': 200.0}, 'from 0 to 180'),
    ({'auxiliary_weight': -1.0}, 'cannot be below 0'),
    ({'std': (58, 57, 57)}, 'Divide what is of pixels'),
  ],
)
def test_options_of_segmentation_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    segmentation.row(dense_sets.scenes(), **options)


@pytest.mark.parametrize(
  ('label', 'classes', 'message'),
  [(255, None, 'no pixel has a label'), (1, (2, 3), r'no classes=\(2, 3\)')],
)
def test_masks_of_which_no_score_is_a_number(label, classes, message):
  task = segmentation.row(dense_sets.scenes(), classes=classes)
  masks = jnp.full((6, 12, 16), label, jnp.uint8)
  sums = task.sums(Maps(_perfect(masks)), {'mask': masks}, jnp.ones(6))
  with pytest.raises(DataError, match=message):
    task.scores(jax.tree.map(np.asarray, sums))


def _by_pixel(images):
  """What a network gives whose classes depend on each pixel alone."""
  weights = jax.random.normal(jax.random.key(1), (3, 4))
  return Maps(jnp.sin(4 * (images @ weights)))


def _tested(network, **options):
  dataset = dense_sets.scenes()
  task = segmentation.row(dataset, crop=9, **options)
  rows = {name: jnp.asarray(x) for name, x in dataset.test.items()}
  batch = jax.jit(lambda rows: task.prepare(None, rows))(rows)
  valid = jnp.array([1.0, 1, 1, 1, 1, 0])
  sums = jax.jit(task.sums)(network(batch['image']), batch, valid)
  sums = jax.tree.map(np.asarray, sums)
  return len(batch['image']), sums, task.scores(sums)


@pytest.mark.parametrize(
  ('options', 'views'),
  [
    ({'window': 9}, 2 * 3),
    ({'window': 9, 'flip_test': True}, 2 * 3 * 2),
    ({'flip_test': True}, 2),
    ({'window': 16, 'window_share': 0.5}, 1),
  ],
)
def test_windows_and_whole_images_agree_where_they_must(options, views):
  seen, expected, _ = _tested(_by_pixel)
  assert seen == 6 and np.sum(expected['matrix'].any(0)) > 1
  seen, sums, _ = _tested(_by_pixel, **options)
  assert seen == 6 * views
  np.testing.assert_array_equal(sums['matrix'], expected['matrix'])
  np.testing.assert_allclose(sums['loss'], expected['loss'], rtol=1e-5)


def test_windows_see_what_whole_images_do_not():
  def by_mean(images):
    found = _by_pixel(images).logits
    return Maps(found - 2 * found.mean((1, 2), keepdims=True))

  _, whole, _ = _tested(by_mean)
  _, sums, scores = _tested(by_mean, window=9)
  assert np.any(sums['matrix'] != whole['matrix'])
  assert sums['matrix'].sum() == whole['matrix'].sum()
  assert 0 <= scores['miou'] <= 1 and np.isfinite(scores['loss'])
