"""Methods that are new in where they perturb, filed as their parts are."""
