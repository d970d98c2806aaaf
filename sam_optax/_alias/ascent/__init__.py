"""Methods whose new part is an ascent, in modules named as in `ascent`."""
