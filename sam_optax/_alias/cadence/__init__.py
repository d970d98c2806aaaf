"""Methods whose new part is a cadence, in modules named as in `cadence`."""
