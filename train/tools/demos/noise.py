"""Methods on digits with wrong labels, where they differ."""

from train.tools.demos.demo import Demo, draw_losses

_SHARE = 0.6

NOISE = Demo(
  config='configs.digits_noise',
  settings=(
    f'--config.data.label_noise={_SHARE}',
    # Long enough to learn wrong labels by heart, and within four minutes.
    '--config.epochs=50',
    '--config.eval_every=5',
  ),
  about=f'{100 * _SHARE:.0f} % of the training labels drawn at random',
  picture=draw_losses,
  further=(
    ('make demo TASK=classification', 'the same digits with right labels'),
    (
      'python -m train.sweep --config=configs/digits_noise.py'
      ' --workdir=runs/noise --grid=data.label_noise=0,0.2,0.4,0.6,0.8',
      'more methods, five shares of random labels, twice as long',
    ),
    (
      'python -m train --config=configs/own_images.py'
      ' --config.data.name=FOLDER --workdir=runs/own',
      'your own images, see docs/your-own-images.md',
    ),
  ),
)
