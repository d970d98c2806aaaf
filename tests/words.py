"""Checks of what is said in errors, and of what the program leaves alone."""

import re

_CLOSING = {')': '(', ']': '[', '}': '{'}


def well_formed(text):
  """Asserts that no repr or message of another library broke a sentence."""
  stray = re.search(
    r"""[?!,;:]\.(?!\S)|(?<=[\w)'"])\.\.(?!\S)|, Did you""", text
  )
  assert stray is None, text
  # Half-open intervals, and a bracket by itself that a message speaks of.
  text = re.sub(r'[\[(]-?[\w.]+, -?[\w.]+[\])]|[\'"][()\[\]{}][\'"]', '', text)
  still_open = []
  for letter in text:
    if letter in _CLOSING.values():
      still_open.append(letter)
    elif letter in _CLOSING:
      assert still_open and still_open.pop() == _CLOSING[letter], text
  assert not still_open, text


def in_three_beats(text, *parts):
  assert 'Traceback' not in text
  well_formed(text)
  assert text.count('. ') >= 2 or text.count('; ') >= 1, text
  for part in parts:
    assert part in text


def snapshot(folder):
  return {
    str(path): path.read_bytes() if path.is_file() else None
    for path in folder.rglob('*')
  }
