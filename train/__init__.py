"""The training program: `python -m train --config=configs/digits.py`."""

import importlib.util
import sys

# One of the extra `train` that everything here needs, and the library does not.
if importlib.util.find_spec('ml_collections') is None:
  raise ImportError(
    f'Given {sys.executable}, which has no ml_collections. The training program'
    ' needs more than the library. In the checkout, run'
    " pip install '.[train]', or use the Python that `make demo` set up:"
    ' .venv/bin/python.'
  )
