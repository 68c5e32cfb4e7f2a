"""A policy as an ONNX model: what `numpy_policy` computes, as a graph.

Inputs are the parts of the observation by their names, in their own types. Outputs are the parts of
the action as the environment takes them, and the parameters of their distributions. The first axis
of each is the batch.
"""

import itertools
import json
import math
from typing import Any

import numpy as np

from policygrad.core.errors import UserError
from policygrad.exporting.description import Arrays, Description, Tree
from policygrad.exporting.numpy_policy import FLOOR, one_hot_columns, parts

PRODUCER = "policygrad"
OPSET, IR_VERSION = 17, 8  # of 2022, so that earlier runtimes read it too
ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu"}


def onnx_content(description: Description, about: dict[str, Any]) -> bytes:
    """The content of an ONNX file.

    Args:
        description: of the policy.
        about: plain data, kept beside the description in the file's metadata.

    Raises:
        UserError: the package onnx is not installed.
    """
    onnx, data = require_onnx(), description.data
    graph = Graph(onnx)
    features, flags = [], []
    for part in parts(data["observation"]):
        rows = graph.input(part)
        if part["is_mask"]:
            flags.append(graph("Greater", graph.cast(rows, np.float32), np.float32(0)))
        if part["is_feature"]:
            read = _one_hot if part["kind"] == "choices" else _measurements
            features.append(read(graph, part, rows))
    outputs = _network(graph, graph("Concat", *features, axis=1), description)
    mask = graph("Concat", *flags, axis=1) if flags else None
    for part in parts(data["action"]):
        own = graph.columns(outputs, *part["outputs"])
        permitted = graph.columns(mask, *part["mask"]) if mask and part["mask"] else None
        HEADS[part["kind"]](graph, part, description.arrays, own, permitted)
    model = onnx.helper.make_model(
        graph.build("policy"),
        producer_name=PRODUCER,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    metadata = {key: json.dumps(value) for key, value in {**about, **data}.items()}
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def is_export(content: bytes) -> bool:
    """Whether this is the content of an ONNX file that this module made."""
    onnx = require_onnx()
    try:
        return onnx.load_model_from_string(content).producer_name == PRODUCER
    except Exception:  # protobuf's own, which has no public name
        return False


def require_onnx() -> Any:
    """The package onnx; UserError with the command that installs it."""
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise UserError(
            f"an export to ONNX needs the package onnx ({error}); pip install 'policygrad[onnx]'"
        ) from error
    return onnx


class Graph:
    """The nodes, constants, inputs and outputs of a graph, collected one after the other."""

    def __init__(self, onnx: Any) -> None:
        self._helper, self._to_tensor = onnx.helper, onnx.numpy_helper.from_array
        self._nodes, self._constants, self._inputs, self._outputs = [], [], [], []

    def __call__(self, operator: str, *inputs: Any, **attributes: Any) -> str:
        """Add a node with one result, and return the name of its result.

        Args:
            operator: one of ONNX's own.
            inputs: names of values; or arrays, which become constants.
            attributes: of the operator.
        """
        result = f"{operator}.{len(self._nodes)}"
        names = [x if isinstance(x, str) else self._constant(x) for x in inputs]
        self._nodes.append(self._helper.make_node(operator, names, [result], **attributes))
        return result

    def cast(self, value: str, dtype: Any) -> str:
        """A value in another type."""
        return self("Cast", value, to=self._type(dtype))

    def columns(self, value: str, first: int, end: int) -> str:
        """A range of the columns of rows `[B, size]`."""
        return self("Slice", value, _ints(first), _ints(end), _ints(1))

    def input(self, part: Tree) -> str:
        """Add an input for a part of the observation, and return its rows `[B, size]`."""
        self._inputs.append(self._value(part["name"], part["dtype"], part["shape"]))
        return self("Reshape", part["name"], _ints(-1, math.prod(part["shape"])))

    def output(self, name: str, value: str, dtype: Any, shape: list[int]) -> None:
        """Make a value `[B, size]` an output `[B, *shape]`."""
        rows = self("Reshape", self.cast(value, dtype), _ints(-1, *shape))
        self._nodes.append(self._helper.make_node("Identity", [rows], [name]))
        self._outputs.append(self._value(name, dtype, shape))

    def build(self, name: str) -> Any:
        """The graph of all that was added."""
        return self._helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, self._constants
        )

    def _constant(self, array: Any) -> str:
        name = f"constant.{len(self._constants)}"
        self._constants.append(self._to_tensor(np.ascontiguousarray(array), name))
        return name

    def _value(self, name: str, dtype: Any, shape: list[int]) -> Any:
        return self._helper.make_tensor_value_info(name, self._type(dtype), ["batch", *shape])

    def _type(self, dtype: Any) -> int:
        return self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def _ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _measurements(graph: Graph, part: Tree, rows: str) -> str:
    return graph.cast(rows, np.float32)


def _one_hot(graph: Graph, part: Tree, rows: str) -> str:
    which, values = one_hot_columns(part)
    apart = graph("Gather", graph.cast(rows, np.int64), which.astype(np.int64), axis=1)
    return graph.cast(graph("Equal", apart, values.astype(np.int64)), np.float32)


def _network(graph: Graph, features: str, description: Description) -> str:
    arrays, layers = description.arrays, description.data["layers"]
    x = graph("Div", graph("Sub", features, arrays["mean"]), arrays["scale"])
    x = graph("Min", graph("Max", x, -arrays["limit"]), arrays["limit"])
    for i in range(layers):
        x = graph("Gemm", x, arrays[f"weight_{i}"], arrays[f"bias_{i}"], transB=1)
        if i < layers - 1:
            x = graph(ACTIVATIONS[description.data["activation"]], x)
    return x


# ----- parts of the action: from the network's outputs `[B, n]` to what comes out


def _categorical(graph: Graph, part: Tree, arrays: Arrays, logits: str, mask: str | None) -> None:
    edges = np.cumsum([0, *part["sizes"]]).tolist()
    log_probs, chosen = [], []
    for cut in itertools.pairwise(edges):
        x = graph.columns(logits, *cut)
        if mask is None:
            x = graph("LogSoftmax", x, axis=1)
        else:
            permitted = _or_all(graph, graph.columns(mask, *cut))
            x = graph("LogSoftmax", graph("Where", permitted, x, FLOOR), axis=1)
            x = graph("Where", permitted, x, FLOOR)
        log_probs.append(x)
        chosen.append(graph("ArgMax", x, axis=1, keepdims=1))
    actions = graph("Add", graph("Concat", *chosen, axis=1), _ints(*part["starts"]))
    graph.output(part["name"], actions, part["dtype"], part["shape"])
    rows = graph("Concat", *log_probs, axis=1)
    graph.output(_of(part, "log_probabilities"), rows, np.float32, [edges[-1]])


def _or_all(graph: Graph, mask: str) -> str:
    """A mask that permits all where it would permit nothing: a graph cannot refuse it."""
    most = graph("ReduceMax", graph.cast(mask, np.float32), axes=[1], keepdims=1)
    return graph("Or", mask, graph("Equal", most, np.float32(0)))


def _bernoulli(graph: Graph, part: Tree, arrays: Arrays, log_odds: str, mask: str | None) -> None:
    if mask is not None:
        log_odds = graph("Where", mask, log_odds, FLOOR)
    ones = graph("Greater", log_odds, np.float32(0))
    graph.output(part["name"], ones, part["dtype"], part["shape"])
    graph.output(_of(part, "log_odds"), log_odds, np.float32, [math.prod(part["shape"])])


def _gaussian(graph: Graph, part: Tree, arrays: Arrays, mean: str, mask: str | None) -> None:
    own = {key: arrays[f"{part['name']}/{key}"].ravel() for key in BOX}
    x = graph.cast(graph("Tanh", mean) if part["squash"] else mean, np.float64)
    x = graph("Add", graph("Mul", x, own["half"]), own["middle"])
    x = graph("Min", graph("Max", x, own["low"]), own["high"])
    graph.output(part["name"], x, part["dtype"], part["shape"])
    graph.output(_of(part, "mean"), mean, np.float32, part["shape"])
    log_std = graph("Expand", own["log_std"], graph("Shape", mean))
    graph.output(_of(part, "log_std"), log_std, np.float32, part["shape"])


def _of(part: Tree, parameter: str) -> str:
    """The name of a parameter's output: `mean` for `action`, `mean/arm` for `action/arm`."""
    return parameter + part["name"].removeprefix("action")


BOX = ("log_std", "middle", "half", "low", "high")
HEADS = {"categorical": _categorical, "bernoulli": _bernoulli, "gaussian": _gaussian}
