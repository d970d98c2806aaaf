"""ARSAM, table 4: pose on MPII, SimCC on HRNet-W32 with Adam.

python -m train.sweep --config=configs/arsam_table4.py \
  --workdir=runs/arsam_table4

`--config.data.name` is the folder of MPII with `annot` and `images`, and
`--config.model.pretrained` the file of the weights from ImageNet, None for
none. The numbers of Adam and SAM are those of `configs/ausam_table5.py`.
"""

from configs import arsam, published, settings
from train import config as train_config

TABLE = published.title('arsam', 4)
PUBLISHED = published.table('arsam', 4)
VARIANTS = settings.trained(PUBLISHED)


def get_config(variant: str = 'simcc_hrnet-mpii-adam'):
  row = train_config.pick_variant(variant, VARIANTS)
  return arsam.config(row)
