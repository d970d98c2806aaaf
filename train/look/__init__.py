"""Shows a trained network: its landscape, curvature, sharpness and curves."""
