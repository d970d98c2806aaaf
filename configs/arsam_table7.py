"""ARSAM, table 7: segmentation of VOC 2012 by PSPNet and DeepLabv3+.

python -m train.sweep --config=configs/arsam_table7.py \
  --methods='deeplabv3plus-*' --workdir=runs/arsam_table7

`--config.data.name` is the folder of VOC 2012 with the masks of Hariharan et
al., and `--config.model.pretrained` the file of the weights from ImageNet, None
for none. The paper says "Acc." without saying what it is: ours is the mean IoU.
"""

from configs import arsam, published, settings
from train import config as train_config

TABLE = published.title('arsam', 7)
PUBLISHED = published.table('arsam', 7)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'pspnet-voc2012-sgd'):
  row = train_config.pick_variant(variant, VARIANTS)
  return arsam.config(row)
