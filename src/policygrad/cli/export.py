"""`policygrad export`: a policy for machines without JAX."""

import json as json_module
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from policygrad.cli.commands import Json
from policygrad.core.shell import user_path
from policygrad.devices.starting import prepare_jax

FORMAT_HELP = (
    "numpy: a folder with policy.py, which needs NumPy alone. onnx: one file, for onnxruntime; "
    "needs the package onnx."
)
OUT_HELP = (
    "The folder, or the file, to write; an earlier export there is replaced. Default: "
    "policy-numpy, or policy.onnx, in the run's directory."
)
USUAL = {"numpy": "policy-numpy", "onnx": "policy.onnx"}


def export(
    run: Positional[Annotated[Path, arg(help="Run directory, or a policy file.", metavar="RUN")]],
    format: Annotated[Literal["numpy", "onnx"], arg(help=FORMAT_HELP)] = "numpy",  # noqa: A002
    out: Annotated[Path | None, arg(help=OUT_HELP, metavar="PATH")] = None,
    json: Json = False,
) -> int:
    """Write a policy for machines without JAX, with all that it applies to raw observations."""
    prepare_jax()
    from policygrad import exporting

    run = user_path(run)
    if out is None:
        out = (run if run.is_dir() else run.parent) / USUAL[format]
    written = exporting.export(run, out, format=format)
    if json:
        print(json_module.dumps({"path": str(written), "format": format}, indent=1))
    else:
        print(written)
    return 0
