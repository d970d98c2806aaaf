"""What the documentation site does not write by hand.

`hooks` is what MkDocs calls. Pages of methods and the API reference are made
from the code and its docstrings, and pages such as `results/*.md` are shown
from where they lie in the repository.
"""
