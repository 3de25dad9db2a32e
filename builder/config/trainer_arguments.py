"""The arguments of Lightning's `Trainer` as a table, so that they can be checked without importing it."""

from __future__ import annotations

from builder.config.kinds import (
    BOOLEAN,
    LIST,
    MAPPING,
    NULL,
    TEXT,
    Field,
    Kind,
    choice,
    either,
    integer,
    items,
    number,
    share,
)  # fmt: skip

_TIME = either(Kind("a time as DD:HH:MM:SS", TEXT.accepts), Kind("a mapping like {hours: 2}", MAPPING.accepts))
_BATCHES = either(integer(0), share(), NULL)
_PRECISIONS = (
    "auto", 64, 32, 16, "64", "32", "16", "bf16", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "32-true",
    "64-true", "transformer-engine", "transformer-engine-float16",
)  # fmt: skip
_OBJECT = either(TEXT, LIST, MAPPING, NULL)


def _optional(kind: Kind) -> Kind:
    return either(kind, NULL)


TRAINER_ARGUMENTS: dict[str, Field] = {
    "accelerator": Field("what trains: auto, cpu, gpu, mps, tpu", TEXT, "auto"),
    "strategy": Field("how several devices share the work: auto, ddp, fsdp, …", TEXT, "auto"),
    "devices": Field(
        "how many devices, which, or auto", either(integer(0, also=(-1,)), TEXT, items(integer(0))), "auto"
    ),
    "num_nodes": Field("how many machines", integer(1), 1),
    "precision": Field(
        "of numbers: 32-true, 16-mixed, bf16-mixed, …; auto: bf16-mixed on GPUs that have it",
        _optional(choice(*_PRECISIONS)),
    ),
    "logger": Field("", _OBJECT, refused="loggers stand in the section 'logger'"),
    "callbacks": Field("", _OBJECT, refused="callbacks stand in the section 'callbacks'"),
    "fast_dev_run": Field("run only this many batches of each phase", either(BOOLEAN, integer(0)), False),
    "max_epochs": Field("stop after this many epochs; -1 for never", _optional(integer(0, also=(-1,)))),
    "min_epochs": Field("train at least this many epochs", _optional(integer(0))),
    "max_steps": Field("stop after this many optimiser steps; -1 for never", integer(0, also=(-1,)), -1),
    "min_steps": Field("train at least this many optimiser steps", _optional(integer(0))),
    "max_time": Field("stop after this time", _optional(_TIME)),
    "limit_train_batches": Field("how many training batches an epoch, or which share", _BATCHES),
    "limit_val_batches": Field("how many validation batches, or which share", _BATCHES),
    "limit_test_batches": Field("how many test batches, or which share", _BATCHES),
    "limit_predict_batches": Field("how many batches of predictions, or which share", _BATCHES),
    "overfit_batches": Field("train and validate on these few batches", either(integer(0), share()), 0.0),
    "val_check_interval": Field(
        "validate after this share of an epoch, this many batches, or this time",
        either(integer(1), share(), _TIME, NULL),
    ),
    "check_val_every_n_epoch": Field("validate after every so many epochs", _optional(integer(1)), 1),
    "num_sanity_val_steps": Field("validation batches before training begins", _optional(integer(0, also=(-1,)))),
    "log_every_n_steps": Field("log a training step's metrics every so many steps", _optional(integer(0))),
    "enable_checkpointing": Field("whether checkpoints are written", _optional(BOOLEAN)),
    "enable_progress_bar": Field("whether progress is shown", _optional(BOOLEAN)),
    "enable_model_summary": Field("whether the model's modules are listed", _optional(BOOLEAN)),
    "accumulate_grad_batches": Field("batches whose gradients are added up before a step", integer(1), 1),
    "gradient_clip_val": Field("the most that gradients may be", _optional(number(0))),
    "gradient_clip_algorithm": Field("clip the gradients' norm, or each value", _optional(choice("norm", "value"))),
    "deterministic": Field("whether only deterministic algorithms run", either(BOOLEAN, choice("warn"), NULL)),
    "benchmark": Field("whether cuDNN looks for the fastest algorithms", _optional(BOOLEAN)),
    "inference_mode": Field("whether evaluation runs in inference_mode, else no_grad", BOOLEAN, True),
    "use_distributed_sampler": Field("whether samplers are split over devices", BOOLEAN, True),
    "profiler": Field("simple, advanced or pytorch", _optional(choice("simple", "advanced", "pytorch", "xla"))),
    "detect_anomaly": Field("whether autograd looks for the origin of a nan", BOOLEAN, False),
    "barebones": Field("whether all that costs speed is off", BOOLEAN, False),
    "plugins": Field("", _OBJECT, refused="plugins are Python objects; 'precision' and 'strategy' take names"),
    "sync_batchnorm": Field("whether BatchNorm's statistics are shared by all devices", BOOLEAN, False),
    "reload_dataloaders_every_n_epochs": Field("make the loaders anew every so many epochs", integer(0), 0),
    "default_root_dir": Field("", _OBJECT, refused="run folders lie below 'output_dir'"),
    "enable_autolog_hparams": Field("whether hyperparameters are logged at the start", BOOLEAN, True),
    "model_registry": Field("the model's name on a model hub", _optional(TEXT)),
}
"""By name, in the order of `Trainer`'s signature."""

OURS: dict[str, Field] = {
    "compile": Field("whether torch.compile compiles the model", BOOLEAN, False),
    "shard": Field("with strategy=fsdp2: the modules that are gathered one by one; null: all at once", _OBJECT),
}
"""What stands in the section besides."""
