"""R-SAM, table 4: ViTs on five test sets of ImageNet.

python -m train --config=configs/rsam_table4.py:vit_s16-imagenet-rsam \
  --workdir=runs/vit

A row of each network and method is one run, tested on all of the sets at its
end; so only the rows of ImageNet itself are variants. The four other sets are
looked for as follows, and `--config.data.tests.imagenet_r.name=PATH` names
another place; `rsam_table3.py` has the same runs without them.

- ImageNet-Real: TFDS, where the published labels are the feature `real_label`.
  Any of them counts, and images without one are left out. For a folder of the
  validation images, `labels` names the published real.json instead.
- ImageNet-v2: the folder of the matched-frequency archive, whose folders are
  the numbers of the classes. R-SAM does not say which of its three versions.
- ImageNet-R: the published folder, of 200 classes. Predictions are chosen from
  these 200, as in the released code of the authors of ImageNet-R; R-SAM does
  not say.
- ImageNet-C: the published folders noise, blur, weather and digital unpacked
  into one, CORRUPTION/STRENGTH/CLASS. The mean over all of them, without the
  folder `extra`, as the authors of ImageNet-C count. Its images are 224 pixels
  wide, and nothing is cut off again.
"""

from configs import published, rsam, settings
from train import config as train_config

TABLE = published.title('rsam', 4)
PUBLISHED = published.table('rsam', 4)
VARIANTS = settings.trained(PUBLISHED)
TESTS = {
  'imagenet_real': {'name': 'imagenet2012_real', 'label': 'real_label'},
  'imagenet_v2': {'name': 'imagenetv2-matched-frequency-format-val'},
  'imagenet_r': {'name': 'imagenet-r', 'classes': 'own'},
  'imagenet_c': {'name': 'imagenet-c', 'whole': True},
}


def get_config(variant: str = 'vit_b16-imagenet-adamw'):
  row = train_config.pick_variant(variant, VARIANTS)
  config = rsam.imagenet(row)
  config.data.tests = TESTS
  return config
