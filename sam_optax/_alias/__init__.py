"""The published methods, one documented expression each.

A method is filed by the part that is new in it: `ascent`, `cadence`, `descent`
or `selection`, in modules named like those of the parts. In `ascent`, as
there, `radius` holds a new size of the perturbation, `direction` a new
direction and `noise` a random one. A method that only combines the parts of
others is in `compositions`. `sam_optax.METHODS` names them all.

Two families are not here, because they are more than one expression over the
parts: `sam_optax.optimizers` (bSAM and decoupled WSAM) replaces the step of the
base optimizer, and `sam_optax.trajectory` (SAF and MESA) replaces the loss.
"""
