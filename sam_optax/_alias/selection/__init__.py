"""Methods whose new part is a selection, in modules as in `selection`."""
