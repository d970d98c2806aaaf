"""Files of masks as VOC has them and of people as MPII does, to be written."""

import io
import json
import os
import zipfile

import numpy as np
from PIL import Image

from train import config as train_config

MASK = np.array([[0, 1, 20], [255, 5, 0]], np.uint8)


def encoded(pixels, kind, palette=False):
  image = Image.fromarray(pixels)
  if palette:  # Colours that say nothing of the class.
    image = Image.frombytes('P', image.size, pixels.tobytes())
    image.putpalette([(7 * i) % 256 for i in range(768)])
  file = io.BytesIO()
  image.save(file, kind)
  return file.getvalue()


def write(folder, files):
  for name, content in files.items():
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as file:
      file.write(content)
  return str(folder)


def zipped(folder, files):
  path = os.path.join(folder, 'all.zip')
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in files.items():
      archive.writestr(name, content)
  return path


def voc_files(top='', masks=('SegmentationClass',)):
  image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
  grey = np.full((2, 3), 90, np.uint8)
  files = {
    'ImageSets/Segmentation/train.txt': b'b\na\n',
    'ImageSets/Segmentation/val.txt': b'a\n\n',
    'JPEGImages/a.jpg': encoded(image, 'JPEG'),
    'JPEGImages/b.jpg': encoded(grey, 'JPEG'),
  }
  for number, folder in enumerate(masks):
    shifted = MASK.copy()
    shifted[0, 0] = number
    files[f'{folder}/a.png'] = encoded(shifted, 'PNG', palette=number == 0)
    files[f'{folder}/b.png'] = encoded(shifted[::-1].copy(), 'PNG')
  return {top + name: content for name, content in files.items()}


def two_people(**changes):
  joints = [[10.0 + i, 20.0 + 2 * i] for i in range(16)]
  joints[6] = [-1.0, -1.0]
  person = {
    'image': 'a.jpg',
    'joints': joints,
    'joints_vis': [int(i != 6) for i in range(16)],
    'center': [33.0, 40.0],
    'scale': 0.4,
    'head_size': 7.5,
    **changes,
  }
  return [person, {**person, 'scale': 2.0, 'image': 'b.jpg'}]


def mpii_files(people, **more):
  image = np.full((4, 5, 3), 9, np.uint8)
  return {
    'annot/valid.json': json.dumps(people).encode(),
    'images/a.jpg': encoded(image, 'JPEG'),
    'images/b.jpg': encoded(image[..., 0], 'JPEG'),
    **more,
  }


def options_of(path, **changes):
  options = train_config.default().data
  options.name = path
  options.update(changes)
  return options


def write_scenes(folder):
  """Six images of squares, in VOC's layout; a class for each colour."""
  for name in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
    (folder / name).mkdir(parents=True)
  rng = np.random.default_rng(0)
  for number in range(6):
    mask = rng.integers(0, 3, (2, 2 + number % 2)).repeat(9, 0).repeat(9, 1)
    pixels = np.array([[0, 0, 0], [250, 0, 0], [0, 250, 0]])[mask]
    for place, array, kind in (
      ('JPEGImages', pixels, 'jpg'),
      ('SegmentationClass', mask, 'png'),
    ):
      path = folder / place / f'{number}.{kind}'
      Image.fromarray(array.astype(np.uint8)).save(path)
  for split, numbers in (('train', '0123'), ('val', '45')):
    path = folder / 'ImageSets/Segmentation' / f'{split}.txt'
    path.write_text('\n'.join(numbers))
  return str(folder)


def write_people(folder):
  """Six images of noise and two sizes, with joints, in MPII's layout."""
  for name in ('images', 'annot'):
    (folder / name).mkdir()
  rng = np.random.default_rng(0)
  for split, numbers in (('train', range(4)), ('valid', range(4, 6))):
    listed = []
    for number in numbers:
      shape = (16 + number % 2, 16, 3)
      pixels = rng.integers(0, 256, shape).astype(np.uint8)
      Image.fromarray(pixels).save(folder / 'images' / f'{number}.jpg')
      listed.append({
        'image': f'{number}.jpg',
        'joints': rng.uniform(4, 12, (16, 2)).tolist(),
        'joints_vis': [1] * 16,
        'center': [9, 8],
        'scale': 0.064,
        'head_size': 4,
      })  # fmt: skip
    (folder / 'annot' / f'{split}.json').write_text(json.dumps(listed))
  return str(folder)


def dense_config(task, data, **section):
  """A config of two steps of a tiny network, on what these functions write."""
  config = train_config.default()
  config.update({
    'task': task,
    'batch_size': 2,
    'steps': 2,
    'log_every': 1,
    'data': {'name': data},
    'optimizer': {'learning_rate': 0.01},
  })  # fmt: skip
  if data.rpartition('/')[-1].startswith('mpii'):
    config.data.size = 16  # streamed: its images are of two sizes
  with config.unlocked():
    config[task] = section
    if task == 'segmentation':
      config.model = {
        'name': 'deeplabv3plus',
        'widths': (4, 6),
        'blocks': (1, 1),
        'block': 'basic',
        'stem': 'cifar',
        'output_stride': 2,
        'rates': (1, 2),
        'head_width': 6,
      }
    else:
      config.model = {
        'name': 'simcc_hrnet',
        'width': 4,
        'modules': (1,),
        'blocks': 1,
        'stem_width': 4,
        'stem_blocks': 1,
      }
  return config
