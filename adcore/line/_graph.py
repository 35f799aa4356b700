"""A traced model as a file: ONNX where the method can be expressed in it, else torch's own exported program."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adcore.core.plan import PlanError
from adcore.line._forms import Model, traceable

ONNX, PROGRAM = "model.onnx", "model.pt2"
INPUT, OUTPUTS = "images", ("maps", "scores")
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
LARGEST = 1.8e9  # bytes that are kept inside the file: protobuf takes 2 GB


@dataclass(frozen=True)
class Graph:
    """file: its name in the bundle. batch: images that it takes at once; None: any number. why: what kept the method
    from being written as ONNX; "" where nothing did."""

    file: str
    batch: int | None
    why: str = ""


def require_packages() -> None:
    """Raise PlanError, with the mend, where a package of the extra `export` is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise PlanError(f"adcore export needs {', '.join(missing)}: pip install 'adcore[export]'")


def write(model: Model, size: int, folder: Path) -> Graph:
    """Write the model into a folder. Raises what torch raises where it cannot even be exported by torch."""
    with traceable(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(_blank(1, size))  # what is made once and kept is made before a graph would hold its making
        program, batch = _program(model, size)
        try:
            _write_onnx(program, folder / ONNX)
        except Exception as error:  # of whatever the exporter or the runtime does not know
            for file in folder.glob(f"{ONNX}*"):
                file.unlink()
            torch.export.save(program, folder / PROGRAM)
            return Graph(PROGRAM, batch, _first_line(error))
    return Graph(ONNX, batch)


def _program(model: Model, size: int) -> tuple[torch.export.ExportedProgram, int | None]:
    """For any number of images at once, or for one where the method's code asks how many there are."""
    dynamic = ({0: torch.export.Dim.AUTO},)
    with contextlib.suppress(Exception):
        program = torch.export.export(model, (_blank(2, size),), dynamic_shapes=dynamic, strict=False)
        if not str(_shape(program)[0]).isdecimal():  # a symbol, not a number that was settled while tracing
            return program, None
    return torch.export.export(model, (_blank(1, size),), strict=False), 1


def _shape(program: torch.export.ExportedProgram) -> Any:
    nodes = {node.name: node for node in program.graph.nodes}
    return nodes[program.graph_signature.user_inputs[0]].meta["val"].shape


def _blank(count: int, size: int) -> torch.Tensor:
    return torch.zeros(count, 3, size, size, dtype=torch.uint8)


def _write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    import onnxruntime

    with contextlib.redirect_stdout(io.StringIO()):
        made = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=[INPUT], output_names=list(OUTPUTS)
        )  # fmt: skip
    assert made is not None
    held = [*program.state_dict.values(), *program.constants.values()]
    size = sum(one.nbytes for one in held if isinstance(one, torch.Tensor))
    made.save(str(path), external_data=size > LARGEST)
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _first_line(error: Exception) -> str:
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
