"""Sharpness-aware optimizers for JAX: the whole public surface.

A published method is one function; its parts are in the modules `ascent`
(where to perturb), `cadence` (when), `descent` (what to descend along) and
`selection` (whom to ask), and `sharpness_aware` puts them together. What came
of it is looked at with `diagnostics`.
"""

from sam_optax import ascent as ascent
from sam_optax import cadence as cadence
from sam_optax import descent as descent
from sam_optax import diagnostics as diagnostics
from sam_optax import selection as selection
from sam_optax._accumulate import accumulate as accumulate
from sam_optax._alias.beyond import late_sam as late_sam
from sam_optax._alias.beyond import lpfsgd as lpfsgd
from sam_optax._alias.beyond import multi_step_sam as multi_step_sam
from sam_optax._alias.beyond import sam_on as sam_on
from sam_optax._alias.beyond import stable_sam as stable_sam
from sam_optax._alias.beyond import unified_sam as unified_sam
from sam_optax._alias.beyond import vasso as vasso
from sam_optax._alias.investigations import sam_db as sam_db
from sam_optax._alias.investigations import sam_full as sam_full
from sam_optax._alias.investigations import sam_noise as sam_noise
from sam_optax._alias.together import arsam_ausam as arsam_ausam
from sam_optax._alias.what import gnp as gnp
from sam_optax._alias.what import gsam as gsam
from sam_optax._alias.what import looksam as looksam
from sam_optax._alias.what import rgsam as rgsam
from sam_optax._alias.what import wsam as wsam
from sam_optax._alias.when import aelooksam as aelooksam
from sam_optax._alias.when import aesam as aesam
from sam_optax._alias.when import arsam as arsam
from sam_optax._alias.when import sam_k as sam_k
from sam_optax._alias.when import ss_sam as ss_sam
from sam_optax._alias.where import asam as asam
from sam_optax._alias.where import fasam as fasam
from sam_optax._alias.where import fishersam as fishersam
from sam_optax._alias.where import fsam as fsam
from sam_optax._alias.where import identity as identity
from sam_optax._alias.where import rsam as rsam
from sam_optax._alias.where import sam as sam
from sam_optax._alias.whom import ausam as ausam
from sam_optax._alias.whom import esam as esam
from sam_optax._alias.whom import sam_infobatch as sam_infobatch
from sam_optax._alias.whom import sam_random as sam_random
from sam_optax._chain import chain as chain
from sam_optax._if_finite import IfFiniteState as IfFiniteState
from sam_optax._if_finite import if_finite as if_finite
from sam_optax._method import SharpnessAware as SharpnessAware
from sam_optax._method import sharpness_aware as sharpness_aware
from sam_optax._parallel import parallel as parallel
from sam_optax._scale_loss import scale_loss as scale_loss
from sam_optax._step import SharpnessAwareState as SharpnessAwareState
from sam_optax.optimizers import bsam as bsam
from sam_optax.optimizers import wsam_decoupled as wsam_decoupled
from sam_optax.schedules import noise_schedule as noise_schedule
from sam_optax.schedules import rho_schedule as rho_schedule
from sam_optax.trajectory import mesa as mesa
from sam_optax.trajectory import saf as saf

__version__ = '0.1.0'
