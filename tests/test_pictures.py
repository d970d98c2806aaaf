"""Pictures of predictions, and what a dense model says of image files."""

import io
import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.dense_files import dense_config
from train import answers, predict, run
from train.checks import ConfigError, DataError
from train.data import mpii
from train.data.open import open_set
from train.engine import gallery
from train.report import results
from train.tasks import masks, pictures, skeletons
from train.tools.demos import DEMOS

ROOT = pathlib.Path(__file__).parent.parent
COCO = ROOT / 'train' / 'data' / 'coco_ccby'


def test_the_palette_is_that_of_voc():
  colors = pictures.palette()
  # As every mask of VOC has them.
  assert colors[0].tolist() == [0, 0, 0]
  assert colors[1].tolist() == [128, 0, 0]
  assert colors[15].tolist() == [192, 128, 128]
  assert colors[20].tolist() == [0, 64, 128]
  assert colors[255].tolist() == [224, 224, 192]
  assert len(np.unique(colors, axis=0)) == 256


def test_a_mask_is_laid_over_an_image():
  image = np.full((2, 3, 3), 100, np.uint8)
  mask = np.array([[0, 15, 255], [0, 0, 1]], np.uint8)
  found = pictures.painted(image, mask)
  assert found[0, 0].tolist() == [100, 100, 100]
  assert found[0, 1].tolist() == [155, 117, 117]  # 0.4 and 0.6
  assert found[0, 2].tolist() == [40, 40, 40]
  assert found[1, 2].tolist() == [117, 40, 40]


def test_a_skeleton_is_drawn_where_the_joints_are():
  image = np.zeros((16, 16, 3), np.uint8)
  joints = np.array([[2.0, 3.0], [12.0, 3.0], [5.0, 14.0]])
  limbs = ((0, 1, pictures.RIGHT), (1, 2, pictures.LEFT))
  found = pictures.skeleton(image, joints, np.array([True, True, False]), limbs)
  times = pictures.factor(image.shape)
  assert found.shape == (16 * times, 16 * times, 3)
  at = lambda x, y: found[int((y + 0.5) * times), int((x + 0.5) * times)]
  assert at(2, 3).tolist() == [255, 255, 255]
  assert at(7, 3).tolist() == list(pictures.RIGHT)
  # Neither the joint without a label nor the limb to it.
  assert at(5, 14).tolist() == [0, 0, 0]
  assert not np.any(np.all(found == pictures.LEFT, axis=-1))


def test_a_sheet_has_every_panel_in_its_place():
  panel = lambda value: pictures.Panel(
    'text', np.full((20, 30, 3), value, np.uint8)
  )
  found = pictures.sheet([[panel(10), panel(20)], [panel(30), panel(40)]])
  assert found.dtype == np.uint8
  places = {
    value: np.argwhere(np.all(found == value, axis=-1))
    for value in (10, 20, 30, 40)
  }
  assert all(len(place) == 600 for place in places.values())
  low = {value: place.min(axis=0) for value, place in places.items()}
  assert low[10][0] == low[20][0] < low[30][0] == low[40][0]
  assert low[10][1] == low[30][1] < low[20][1] == low[40][1]
  beside = pictures.sheet([[panel(10)], [panel(20)], [panel(30)]], columns=2)
  assert beside.shape == found.shape


def test_examples_are_spread_and_what_filled_up_is_left_out():
  parts = [
    gallery.Examples({'id': np.arange(4) + 4 * n}, np.arange(4), valid)
    for n, valid in enumerate(([1, 1, 1, 1], [1, 1, 0, 0]))
  ]
  parts = [part._replace(valid=np.array(part.valid)) for part in parts]
  assert gallery.joined(parts, 3).rows['id'].tolist() == [0, 2, 5]
  assert gallery.joined(parts, 9).rows['id'].tolist() == [0, 1, 2, 3, 4, 5]
  assert gallery.joined([], 3) is None


def test_few_tests_are_drawn_and_always_the_last():
  due = [n for n in range(1, 20) if gallery.is_due(n, last=n == 19)]
  assert due == [1, 2, 4, 8, 16, 19]


def test_a_box_is_cut_out_and_its_joints_come_back():
  # A ramp whose value says where a pixel was.
  ramp = np.broadcast_to(
    np.arange(60, dtype=np.uint8)[None, :, None], (40, 60, 3)
  )
  row, cut = skeletons.view(ramp, 'x.png', (16, 16, 3), (20, 10, 16, 8))
  # 1.25 times the longer side, around the middle of the box.
  assert cut.corner == (18, 4) and cut.scale == (1.25, 1.25)
  at = np.array([[3.0, 5.0], [9.0, 0.0]])
  back = cut.restore(at)
  np.testing.assert_allclose(back, [[21.875, 10.375], [29.375, 4.125]])
  # What is seen at a pixel is what lies where it comes back to.
  seen = row['image'][5, 3, 0], row['image'][0, 9, 0]
  np.testing.assert_allclose(seen, back[:, 0], atol=1)
  assert row['center'].tolist() == [8, 8] and row['side'] == 16


def test_an_image_of_the_model_s_shape_is_left_as_it_is():
  image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
  row, cut = skeletons.view(image, 'x.png', (16, 16, 3))
  assert row['image'] is image
  assert row['center'].tolist() == [8, 8] and row['side'] == 16
  np.testing.assert_array_equal(cut.restore(np.ones((2, 2))), np.ones((2, 2)))
  row, _ = skeletons.view(image, 'x.png', (16, 16, 3), (2, 4, 8, 6))
  assert row['center'].tolist() == [6, 7] and row['side'] == 10


@pytest.mark.parametrize('box', [(60, 0, 9, 9), (-9, 0, 9, 9), (0, 0, 5, -1)])
def test_a_box_beside_the_image_is_refused(box):
  image = np.zeros((40, 60, 3), np.uint8)
  with pytest.raises(DataError, match='of which the box has none'):
    skeletons.view(image, 'x.png', (16, 16, 3), box)


def test_an_image_is_laid_into_the_corner_and_its_mask_comes_back():
  image = np.full((3, 5, 3), 9, np.uint8)
  (row, place) = masks.view(image, 'x', (6, 7, 3), (1.6, 2.2, 3), False)
  assert row['extent'].tolist() == [5, 3]
  assert np.all(row['image'][:3, :5] == 9)
  assert row['image'][4, 6].tolist() == [2, 2, 3]
  mask = np.arange(42, dtype=np.uint8).reshape(6, 7)
  np.testing.assert_array_equal(masks.restored(mask, place), mask[:3, :5])
  large = np.zeros((12, 8, 3), np.uint8)
  with pytest.raises(DataError, match='--resize'):
    masks.view(large, 'x', (6, 7, 3), (0, 0, 0), False)
  row, place = masks.view(large, 'x', (6, 7, 3), (0, 0, 0), True)
  assert row['extent'].tolist() == [4, 6]
  expected = mask[:6, :4].repeat(2, axis=0).repeat(2, axis=1)
  np.testing.assert_array_equal(masks.restored(mask, place), expected)


def test_masks_keep_the_folders_of_their_images(tmp_path):
  files = [
    f'{tmp_path}/{name}' for name in ('a/0.jpg', 'b/0.jpg', 'b/c/1.x.png')
  ]
  out = tmp_path / 'out'
  found = answers.targets(files, out)
  assert [str(path.relative_to(out)) for path in found.values()] == [
    'a/0',
    'b/0',
    'b/c/1.x',
  ]
  assert [*answers.targets(files[:1], out).values()] == [out / '0']
  written = answers.write({'.png': b'x'}, found[files[2]])
  assert written == [f'{out}/b/c/1.x.png']
  assert (out / 'b/c/1.x.png').read_bytes() == b'x'


def test_the_file_of_a_mask_has_the_classes_and_the_colours():
  mask = np.array([[0, 15], [3, 255]], np.uint8)
  with Image.open(io.BytesIO(masks.indexed(mask))) as picture:
    assert picture.mode == 'P'
    np.testing.assert_array_equal(np.array(picture), mask)
    colors = np.array(picture.convert('RGB'))
  np.testing.assert_array_equal(colors, pictures.palette()[mask])
  names = ('background', 'a', 'b', 'c')
  shares = masks.shares(np.array([[3, 3, 3, 255], [0, 0, 1, 1]]), names)
  assert list(shares.items()) == [
    ('c', round(3 / 7, 6)),
    ('background', round(2 / 7, 6)),
    ('a', round(2 / 7, 6)),
  ]


def test_people_are_brought_to_another_size(people, tmp_path):
  shutil.copytree(people, tmp_path / 'people')
  options = dense_config('pose', str(tmp_path / 'people')).data
  options.size, options.stream = 8, False
  with pytest.raises(DataError, match='16x17 pixels, and people are kept in'):
    open_set(options)
  for path in (tmp_path / 'people' / 'images').iterdir():
    with Image.open(path) as image:
      image.crop((0, 0, 16, 16)).save(path)
  half = open_set(options)
  options.size, options.stream = None, None
  whole = open_set(options)
  assert half.image_shape == (8, 8, 3)
  for name in ('joints', 'center'):
    expected = (whole.train[name] + 0.5) / 2 - 0.5
    np.testing.assert_allclose(half.train[name], expected, rtol=1e-5)
  for name in ('side', 'head_size'):
    expected = whole.train[name] / 2
    np.testing.assert_allclose(half.train[name], expected, rtol=1e-6)
  means = whole.train['image'].reshape(-1, 8, 2, 8, 2, 3).mean(axis=(2, 4))
  assert np.abs(half.train['image'] - means).mean() < 20


def rows_of(split):
  """All rows of a split, of one that is streamed too."""
  if callable(split):
    return split(np.arange(len(split)))
  return dict(split)


@pytest.fixture(scope='module')
def trained(scenes, people, tmp_path_factory):
  """A run of two steps of each task, by its name."""
  import jax

  folders = {}
  for task, data, section in (
    ('segmentation', scenes, {'crop': 17}),
    ('pose', people, {'sigma': 1.5}),
  ):
    folders[task] = tmp_path_factory.mktemp(task) / 'run'
    with jax.numpy_dtype_promotion('standard'):
      run.run(dense_config(task, data, **section), folders[task], bar=False)
  return folders


@pytest.mark.parametrize(
  ('task', 'main'), [('segmentation', 'miou'), ('pose', 'pckh_0.5')]
)
def test_a_run_has_its_scores(task, main, trained):
  record = json.loads((trained[task] / 'task.json').read_text())
  assert record['main']['name'] == main
  result = json.loads((trained[task] / 'result.json').read_text())
  assert 0 <= result[f'test_{main}'] <= 1
  scores = [x for name, x in result.items() if name.startswith('test_')]
  assert np.isfinite(scores).all()


@pytest.mark.parametrize('task', ['segmentation', 'pose'])
def test_a_run_leaves_a_picture(task, trained):
  folder = trained[task]
  with Image.open(folder / 'predictions.png') as picture:
    width, height = picture.size
    pixels = np.array(picture)
  # Two test images: three panels each, or two.
  panels = {'segmentation': 3, 'pose': 2}[task]
  assert width > 144 * panels and height > 2 * 144
  assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 3
  (events,) = (folder / 'tensorboard').iterdir()
  assert b'test/predictions' in events.read_bytes()


@pytest.mark.parametrize('task', ['segmentation', 'pose'])
@pytest.mark.usefixtures('standard_promotion')
def test_a_model_is_tested_on_other_rows(task, trained):
  predictor = predict.load(trained[task])
  dataset = open_set(predictor.config.data)
  result = json.loads((trained[task] / 'result.json').read_text())
  # The second half of a part is filled up.
  for name, score in predictor.test(rows_of(dataset.test)).items():
    assert score == pytest.approx(result[f'test_{name}'], rel=1e-5, abs=1e-7)
  some = {name: x[:3] for name, x in rows_of(dataset.train).items()}
  assert np.isfinite(list(predictor.test(some).values())).all()


@pytest.mark.parametrize('task', ['segmentation', 'pose'])
@pytest.mark.usefixtures('standard_promotion')
def test_a_demonstration_draws_and_says_what_it_saw(task, trained, tmp_path):
  found = results.read(trained[task])
  main = results.main_of(found)
  groups = {'SAM': found, 'of no run': []}
  DEMOS[task].picture(groups, main, 'a title', tmp_path / 'demo.png')
  with Image.open(tmp_path / 'demo.png') as picture:
    # A line for each of two training images and two test images.
    assert picture.size[1] > 4 * 144
  result = json.loads((trained[task] / 'result.json').read_text())
  first, *others = DEMOS[task].words(groups, main)
  assert first.startswith(f'SAM: {main.name} ')
  assert first.endswith(
    f'the 4 images that it was trained on,'
    f' {main.text(result[f"test_{main.name}"], 1)} on the 2 others.'
  )
  assert 'do not rank the methods' in others[-1]


@pytest.mark.usefixtures('standard_promotion')
def test_masks_are_written(trained, scenes, tmp_path, capsys):
  images = sorted(pathlib.Path(scenes, 'JPEGImages').iterdir())[3:]
  arguments = [f'--workdir={trained["segmentation"]}', f'--out={tmp_path}/a']
  assert predict.main([*arguments, *map(str, images)]) == 0
  lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  predictor = predict.load(trained['segmentation'])
  dataset = open_set(predictor.config.data)
  for line, image in zip(lines, images, strict=True):
    assert line['file'] == str(image)
    (written,) = line['written']
    assert written == str(tmp_path / 'a' / f'{image.stem}.png')
    with Image.open(image) as given, Image.open(written) as mask:
      assert mask.size == given.size and mask.mode == 'P'
      values = np.array(mask)
    assert sum(line['classes'].values()) == pytest.approx(1, abs=1e-5)
    for name, share in line['classes'].items():
      number = dataset.facts['class_names'].index(name)
      assert np.mean(values == number) == pytest.approx(share, abs=1e-5)
  # The last two are the test images: what the test counts is what is written.
  matrix = predictor.test(rows_of(dataset.test))
  right = total = 0
  for row in (4, 5):
    truth = np.array(Image.open(f'{scenes}/SegmentationClass/{row}.png'))
    found = np.array(Image.open(tmp_path / 'a' / f'{row}.png'))
    right += np.sum((truth == 0) & (found == 0))
    total += np.sum((truth == 0) | (found == 0))
  assert matrix['iou_0'] == pytest.approx(right / total, abs=1e-6)


@pytest.mark.usefixtures('standard_promotion')
def test_joints_are_told_in_pixels_of_the_image(trained, people, capsys):
  image = pathlib.Path(people, 'images', '4.jpg')
  workdir = f'--workdir={trained["pose"]}'
  # The box of MPII's file: 15 pixels a scale below the centre, 200 a side.
  side = 200 * 0.064
  box = (9 - 1 - side / 2, 8 - 1 + 15 * 0.064 - side / 2, side, side)
  assert (
    predict.main([workdir, f'--box={",".join(map(str, box))}', str(image)]) == 0
  )
  line = json.loads(capsys.readouterr().out)
  assert [joint['joint'] for joint in line['joints']][:2] == [
    'right ankle',
    'right knee',
  ]
  assert all(0 <= joint['confidence'] <= 1 for joint in line['joints'])
  # As of a row of the data set, which has the same box.
  predictor = predict.load(trained['pose'])
  split = mpii.find(people, 'valid')
  one = {name: x[:1] for name, x in split.people._asdict().items()}
  one['image'] = split.image(0)[None]
  found = predictor._batched(predictor._predict, one)['joints'][0]
  told = [[joint['x'], joint['y']] for joint in line['joints']]
  np.testing.assert_allclose(told, found, atol=0.01)


REFUSED = {
  'masks of a pose': ('pose', ['--out=masks'], 'It writes no files'),
  'a box of masks': ('segmentation', ['--box=0,0,9,9'], 'does not read'),
  'classes of masks': ('segmentation', ['--top=3'], 'does not read'),
  'one name twice': ('segmentation', ['--out=m', 'a/0.png'], 'under one name'),
  'among the images': ('segmentation', ['--out=a'], 'overwrite an image'),
}


@pytest.mark.parametrize('case', REFUSED)
@pytest.mark.usefixtures('standard_promotion')
def test_what_a_dense_model_does_not_do(
  case, trained, tmp_path, monkeypatch, capsys
):
  task, arguments, expected = REFUSED[case]
  monkeypatch.chdir(tmp_path)
  for folder in ('a', 'b'):
    (tmp_path / folder).mkdir()
    pixels = np.zeros((16, 16, 3), np.uint8)
    for suffix in ('jpg', 'png'):
      Image.fromarray(pixels).save(tmp_path / folder / f'0.{suffix}')
  workdir = f'--workdir={trained[task]}'
  assert predict.main([workdir, *arguments, 'a/0.jpg']) == 1
  said, error = capsys.readouterr()
  assert said == '' and expected in error
  assert error.count('. ') >= 2


def test_bare_images_are_refused_where_they_do_not_suffice(trained):
  predictor = predict.load(trained['pose'])
  with pytest.raises(ConfigError, match='reads center and side beside'):
    predictor(np.zeros((1, 16, 16, 3), np.uint8))


def test_the_photographs_in_the_repository_have_their_credit():
  lines = (COCO / 'ATTRIBUTION.tsv').read_text().splitlines()
  head, *credits = [line.split('\t') for line in lines]
  known = {
    int(credit[0]): dict(zip(head, credit, strict=True)) for credit in credits
  }
  images = [*COCO.rglob('*.jpg')]
  assert len(images) == 44 + 29
  for image in images:
    credit = known[int(image.stem.partition('_')[0])]
    assert credit['licence'] == 'CC BY 2.0'
    assert credit['flickr_url'].startswith('http')
    assert image.relative_to(COCO).parts[0] in credit['used_in'].split(',')
  assert 'CC BY 2.0' in (COCO / 'README.md').read_text()
