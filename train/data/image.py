"""Opens images with Pillow, and says what is wrong with one that cannot be."""

import contextlib
import io
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from train.checks import DataError, said

if TYPE_CHECKING:
  from PIL import Image

# Pillow's modes, and the mode that each is read as. Modes of more than 8 bits
# a channel are left out: Pillow would clip them.
_MODES = {
  '1': 'L',
  'L': 'L',
  'LA': 'L',
  'P': 'RGB',
  'RGB': 'RGB',
  'RGBA': 'RGB',
  'CMYK': 'RGB',
  'YCbCr': 'RGB',
}


class Encoded(NamedTuple):
  """An example as it is stored."""

  image: str | bytes | np.ndarray  # a path, its content, or pixels [h, w, c]
  label: Any  # a number, or some where an image has several
  name: str  # for an error


@contextlib.contextmanager
def opened(
  encoded: str | bytes | np.ndarray, name: str
) -> Generator['Image.Image', None, None]:
  """Opens an image; its pixels are not decoded before they are asked for.

  Args:
    encoded: a path, the bytes of a file, or pixels.
    name: what it is called in an error.

  Yields:
    The image.

  Raises:
    DataError: if it is no whole image of 8 bits a channel, here or while the
      body decodes it.
  """
  # Here, so that an .npz file can be read where Pillow is not installed.
  try:
    from PIL import Image
  except ImportError as error:
    raise DataError(
      f'Cannot load {name}. Images are read with Pillow, which is not'
      " installed. Run pip install 'sam_optax[train]', or give an .npz file."
    ) from error
  try:
    if isinstance(encoded, np.ndarray):
      grey = encoded.shape[-1] == 1
      yield Image.fromarray(encoded[..., 0] if grey else encoded)
      return
    file = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
    with Image.open(file) as image:
      if image.mode not in _MODES:
        raise DataError(
          f'Cannot load {name}. Its mode is {image.mode}, and only images of 8'
          ' bits a channel are read. Convert it to 8 bits.'
        )
      yield image
  except DataError:
    raise
  except (
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    Image.DecompressionBombError,
  ) as error:
    raise DataError(
      f'Cannot load {name}. It is not a whole image: {said(error)}'
      ' Replace or remove it.'
    ) from error


def read(encoded: str | bytes | np.ndarray, name: str) -> np.ndarray:
  """Decodes an image to uint8 ``[h, w, 1]`` or ``[h, w, 3]``, as it is.

  Args:
    encoded: as `opened` takes it.
    name: what it is called in an error.

  Returns:
    Grey images have one channel and all others three.
  """
  with opened(encoded, name) as image:
    pixels = np.asarray(image.convert(_MODES[image.mode]))
  return pixels if pixels.ndim == 3 else pixels[..., None]
