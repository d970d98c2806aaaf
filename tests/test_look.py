"""The page of `train.look`: its numbers by hand, and that it opens offline."""

import html.parser
import re

import jax
import jax.numpy as jnp
import matfree.decomp
import matfree.eig
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sam_optax import diagnostics
from tests import tiny_config
from tests.test_diagnostics import network, start
from train import config as train_config
from train import run
from train.look import __main__ as look
from train.look import measures, page, trained
from train.report import results

pytestmark = pytest.mark.usefixtures('standard_promotion')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """Two finished runs on wrong labels, one with a table of its examples."""
  root = tmp_path_factory.mktemp('runs')
  with jax.numpy_dtype_promotion('standard'):
    for name, method in (
      ('plain', train_config.method('sam')),
      ('choosing', train_config.method('ausam', ramp_epochs=0)),
    ):
      config = tiny_config.get_config()
      config.model.hidden = (4,)
      config.batch_size = 128
      config.data.update(first=(256, 50), label_noise=0.5, noise_over='wrong')
      config.checkpoint.every = 0
      config.epochs = 3
      config.method = method
      config.measure_every = 2 if name == 'choosing' else 0
      run.run(config, root / name, bar=False)
  return root


def test_lanczos_is_that_of_matfree():
  params = start()
  flat, unravel = ravel_pytree(params)
  grad_fn = jax.grad(lambda w: network(unravel(w)))
  product = lambda vector: jax.jvp(grad_fn, (flat,), (vector,))[1]
  first = jax.random.normal(jax.random.key(1), flat.shape)
  with jax.numpy_rank_promotion('allow'):
    decompose = matfree.decomp.tridiag_sym(flat.size)
    expected, _ = matfree.eig.eigh_partial(decompose)(product, first)
  found = diagnostics.top_eigenvalues(
    jax.grad(network), params, flat.size, iterations=flat.size
  )
  np.testing.assert_allclose(
    np.sort(found), np.sort(expected), rtol=1e-3, atol=1e-4
  )


def bowl(params):
  """A loss with the Hessian diag(1, 1, 1, 1, 9, 9)."""
  return (jnp.sum(params['kernel'] ** 2) + 9 * jnp.sum(params['v'] ** 2)) / 2


BOWL = {'kernel': jnp.array([[0.6, 0.0], [0.8, 0.0]]), 'v': jnp.zeros(2)}


def test_the_numbers_of_a_bowl_are_those_by_hand():
  # Along the gradient, of length 1, to where the loss is (1 + rho)**2 / 2.
  found = measures.radii(bowl, BOWL, (0.5, 2.0), (0.1,))
  expected = [0.5 + 0.125, 2.0 + 2.0]
  np.testing.assert_allclose(found.ascent, expected, rtol=1e-5)
  np.testing.assert_allclose(found.cosine, 1, rtol=1e-5)
  assert np.all(found.worst >= found.ascent - 1e-5)
  assert np.all(found.random < found.ascent)
  # The noise is on the kernels alone, where the bowl is round: the gradient of
  # noisy weights is these weights.
  np.testing.assert_allclose(found.noisy_cosine, 1, rtol=1e-5)
  assert found.noisy_ascent.shape == (1, 2)
  assert np.all(found.noisy_ascent[0] < found.ascent)
  curvature = measures.spectrum(bowl, BOWL, 6)
  np.testing.assert_allclose(curvature.top[:2], [9, 9], rtol=1e-4)
  around = measures.landscape(bowl, BOWL, 5, reach=2.0)
  assert around.losses[2, 2] == pytest.approx(0.5)
  # A direction is as long as each kernel: the empty one is not moved.
  at = around.losses[[0, 4], 2]
  assert at.sum() == pytest.approx(2 * (0.5 + 4 * 0.5), rel=1e-5)


def test_the_loss_is_of_the_labels_that_were_trained_on(runs):
  (found,) = results.read(runs / 'plain')
  network = trained.load(found, 'plain', 10_000)
  loss = float(network.loss_fn(network.params))
  rows = network.rows_of(np.arange(256))
  wrong = np.argmax(network.prepared(rows)['target'], -1) != rows['label']
  assert wrong.mean() == pytest.approx(0.5, abs=0.1)
  assert network.tables == {}
  # With the true labels another loss.
  exported = trained.export.read(runs / 'plain')
  exported.config.data.label_noise = 0.0
  assert loss == float(network.loss_fn(network.params))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(trained.export, 'read', lambda folder: exported)
    clean = trained.load(found, 'plain', 10_000)
  found = float(clean.loss_fn(clean.params))
  assert found != pytest.approx(loss, abs=1e-3)


class Sources(html.parser.HTMLParser):
  """Collects what a page loads, and its tags in order."""

  def __init__(self):
    super().__init__()
    self.loaded, self.open = [], []

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.loaded += [attrs[k] for k in ('src', 'srcset', 'data') if k in attrs]
    assert tag not in ('script', 'link', 'iframe')
    if tag not in ('meta', 'img'):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


def test_one_page_has_all_and_opens_offline(runs, tmp_path, capsys):
  arguments = [
    *(str(runs / 'plain'), str(runs / 'choosing'), f'--out={tmp_path}'),
    *('--examples=64', '--points=3', '--iterations=4', '--radii=0.1,0.2'),
    '--noise=0.1',
  ]
  assert look.main(arguments) == 0
  assert 'index.html' in capsys.readouterr().out
  content = (tmp_path / 'index.html').read_text()
  sources = Sources()
  sources.feed(content)
  assert not sources.open
  pictures = list(tmp_path.glob('*.png'))
  assert len(sources.loaded) == len(pictures) == 10
  assert all(x.startswith('data:image/png;base64,') for x in sources.loaded)
  assert 'url(' not in content and '@import' not in content
  # What sharpness does not say, with the reference.
  assert 'does not by itself predict' in content and page.LINK in content
  for title in ('landscape', 'Hessian', 'Sharpness', 'Norms', 'Curves'):
    assert title in content
  # Two tables of the one method; the shares of changed labels.
  assert content.count('<h2>Examples of choosing by') == 2
  assert re.search(r'so were \d+% of all', content)


def test_what_is_not_finished_or_no_run_is_refused(tmp_path, capsys):
  (tmp_path / 'run').mkdir()
  assert look.main([str(tmp_path), f'--out={tmp_path / "out"}']) == 1
  assert 'There is no run in it' in capsys.readouterr().err
  (tmp_path / 'run' / 'config.json').write_text('{"seed": 0}')
  (tmp_path / 'empty').mkdir()
  for other, match in (('empty', 'no run in it'), ('none', 'no such folder')):
    both = [str(tmp_path / 'run'), str(tmp_path / other)]
    assert look.main([*both, f'--out={tmp_path / "out"}']) == 1
    assert match in capsys.readouterr().err
  assert look.main([str(tmp_path / 'run'), f'--out={tmp_path / "out"}']) == 1
  assert 'finish' in capsys.readouterr().err
