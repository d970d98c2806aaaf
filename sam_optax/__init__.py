"""Sharpness-aware optimizers for JAX: the whole public surface.

A published method is one function, and `METHODS` names them all. The parts of
the methods are in the modules `ascent` (where to perturb to), `cadence` (on
which steps), `descent` (along what) and `selection` (on which examples);
`sharpness_aware` puts parts together. `kernels` tells kernels from biases, and
`diagnostics` measures how flat the result is.
"""

# By names that help() and dir() leave out.
import collections.abc as _abc
from types import MappingProxyType as _read_only

from sam_optax import ascent as ascent
from sam_optax import cadence as cadence
from sam_optax import descent as descent
from sam_optax import diagnostics as diagnostics
from sam_optax import frameworks as frameworks
from sam_optax import kernels as kernels
from sam_optax import selection as selection
from sam_optax._accumulate import accumulate as accumulate
from sam_optax._alias.ascent.direction import fsam as fsam
from sam_optax._alias.ascent.direction import gcsam as gcsam
from sam_optax._alias.ascent.direction import sam_on as sam_on
from sam_optax._alias.ascent.direction import vasso as vasso
from sam_optax._alias.ascent.noise import lpfsgd as lpfsgd
from sam_optax._alias.ascent.noise import rsam as rsam
from sam_optax._alias.ascent.radius import asam as asam
from sam_optax._alias.ascent.radius import fishersam as fishersam
from sam_optax._alias.ascent.radius import multi_step_sam as multi_step_sam
from sam_optax._alias.ascent.radius import sam as sam
from sam_optax._alias.ascent.radius import unified_sam as unified_sam
from sam_optax._alias.ascent.reference import sam_db as sam_db
from sam_optax._alias.ascent.reference import sam_full as sam_full
from sam_optax._alias.ascent.reference import sam_noise as sam_noise
from sam_optax._alias.cadence.adaptive import aesam as aesam
from sam_optax._alias.cadence.adaptive import arsam as arsam
from sam_optax._alias.cadence.adaptive import vsam as vsam
from sam_optax._alias.cadence.plain import identity as identity
from sam_optax._alias.cadence.plain import late_sam as late_sam
from sam_optax._alias.cadence.plain import sam_k as sam_k
from sam_optax._alias.cadence.plain import ss_sam as ss_sam
from sam_optax._alias.compositions import aelooksam as aelooksam
from sam_optax._alias.compositions import arsam_ausam as arsam_ausam
from sam_optax._alias.compositions import fasam as fasam
from sam_optax._alias.compositions import rgsam as rgsam
from sam_optax._alias.descent import gnp as gnp
from sam_optax._alias.descent import gsam as gsam
from sam_optax._alias.descent import looksam as looksam
from sam_optax._alias.descent import stable_sam as stable_sam
from sam_optax._alias.descent import wsam as wsam
from sam_optax._alias.selection.batch import ausam as ausam
from sam_optax._alias.selection.batch import esam as esam
from sam_optax._alias.selection.batch import sam_random as sam_random
from sam_optax._alias.selection.epoch import infobatch as infobatch
from sam_optax._alias.selection.epoch import sam_infobatch as sam_infobatch
from sam_optax._arrays import from_arrays as from_arrays
from sam_optax._arrays import to_arrays as to_arrays
from sam_optax._calls import Decisions as Decisions
from sam_optax._chain import chain as chain
from sam_optax._check_chain import check_chain as check_chain
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

# Every method once, by the name of its constructor: first the two that the
# others are compared with, then in the order of the four questions. Programs
# that take a method by name look it up here.
METHODS: _abc.Mapping[str, _abc.Callable[..., SharpnessAware]] = _read_only(
  {
    method.__name__: method
    for method in (
      identity,
      sam,
      # A new ascent.
      asam,
      fishersam,
      unified_sam,
      multi_step_sam,
      fsam,
      vasso,
      sam_on,
      gcsam,
      sam_full,
      sam_noise,
      sam_db,
      rsam,
      lpfsgd,
      bsam,
      # A new cadence.
      late_sam,
      sam_k,
      ss_sam,
      aesam,
      vsam,
      arsam,
      # A new descent.
      gsam,
      looksam,
      gnp,
      wsam,
      wsam_decoupled,
      stable_sam,
      # A new selection.
      ausam,
      esam,
      sam_random,
      infobatch,
      sam_infobatch,
      # Compositions of published parts.
      fasam,
      rgsam,
      aelooksam,
      arsam_ausam,
      # Another loss.
      saf,
      mesa,
    )
  }
)

__version__ = '0.1.0'
