"""The executors that come with the package, registered by name; each imports what it needs where it is made."""

from builder.registry import executors
from builder.sweep.local import Local
from builder.sweep.on_ray import Ray
from builder.sweep.on_slurm import Slurm
from builder.sweep.serial import Serial
from builder.sweep.vmap import Vmap

for _name, _executor in {"serial": Serial, "local": Local, "vmap": Vmap, "ray": Ray, "slurm": Slurm}.items():
    executors.register(_name, _executor)
