"""Checks of what the program says, and of what it leaves alone."""


def in_three_beats(text, *parts):
  assert 'Traceback' not in text
  assert text.count('. ') >= 2 or text.count('; ') >= 1, text
  for part in parts:
    assert part in text


def snapshot(folder):
  return {
    str(path): path.read_bytes() if path.is_file() else None
    for path in folder.rglob('*')
  }
