"""TensorBoard's event files: one, or those of one run that follow one another."""

from functools import reduce
from pathlib import Path

import numpy as np
from jaxtyping import Float

from policygrad.core.errors import UserError
from policygrad.logs.readers import not_empty
from policygrad.logs.table import Column, Table, going_on

EVENTS = "events.out.tfevents"
NEEDS_TENSORBOARD = (
    "TensorBoard's event files are read by the package tensorboard, which is not installed; "
    "pip install 'policygrad[logs]'"
)


def read_events(path: Path) -> Table:
    """A file of TensorBoard events, or a folder with some that follow one another.

    A folder may hold none yet: a run that died early left nothing but its episodes in monitors.

    Raises:
        UserError: the package is missing, a file holds no event that could be read, or the files of
            a folder are of several runs.
    """
    if path.is_file():
        return not_empty(_read_file(path), path)
    # their names begin with the time at which they were begun
    return reduce(_followed_by, map(_read_file, sorted(path.glob(f"*{EVENTS}*"))))


def _read_file(path: Path) -> Table:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util import tensor_util
    except ImportError as error:
        raise UserError(NEEDS_TENSORBOARD) from error
    keep_all = {"scalars": 0, "tensors": 0, "images": 1, "histograms": 1, "audio": 1}
    events = EventAccumulator(str(path), size_guidance=keep_all)
    try:
        events.Reload()
    except Exception as error:  # whatever the package raises on a file that is none of its own
        raise UserError(f"{path} is damaged, or no event file: {error}") from error
    found = {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }
    texts = {}
    for tag in events.Tags()["tensors"]:
        arrays = [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
        if arrays[-1][1].dtype.kind in "OSU":
            last = arrays[-1][1].ravel()[0]
            texts[tag] = last.decode("utf-8", "replace") if isinstance(last, bytes) else str(last)
        elif arrays[-1][1].size == 1:
            found[tag] = [(step, float(x.ravel()[0])) for step, x in arrays]
    columns = {tag: _in_order(np.array(pairs, np.float64)) for tag, pairs in found.items()}
    anew = any(_begins_anew(np.array(pairs)[:, 0]) for pairs in found.values())
    note = f"in {path.name} the steps begin anew; they were counted on"
    return Table(columns, texts, files=(path.name,), notes=(note,) if anew else ())


def _in_order(pairs: Float[np.ndarray, "N 2"]) -> Column:
    """Steps and values as they were written, in the order of steps."""
    steps, values = pairs.T
    if _begins_anew(steps):
        return Column(going_on(steps), values)
    order = np.argsort(steps, kind="stable")
    return Column(steps[order], values[order])


def _begins_anew(steps: Float[np.ndarray, " N"]) -> bool:
    """Whether steps fall to less than half; less than that, and they were written out of order."""
    return bool(np.any(steps[1:] < steps[:-1] / 2))


def _followed_by(earlier: Table, later: Table) -> Table:
    """Two files of one run, where the later may have gone back to a step of the earlier one.

    What the earlier file has from that step on, the run has discarded.

    Raises:
        UserError: the later file begins where the earlier one does: they are two runs.
    """
    both = [(earlier.columns[x], later.columns[x]) for x in later.columns if x in earlier.columns]
    if not both:
        return later | earlier
    anew = sum(new.steps[0] <= old.steps[0] for old, new in both)
    if 2 * anew > len(both):
        raise UserError(
            f"the folder holds several logs, which count the same steps: {earlier.files[-1]} and "
            f"{later.files[0]}; name one of these files"
        )
    back = min(new.steps[0] for _, new in both)
    cut = {
        tag: _before(x, back) if tag in later.columns else x for tag, x in earlier.columns.items()
    }
    goes_back = any(len(cut[tag].steps) < len(x.steps) for tag, x in earlier.columns.items())
    note = f"{later.files[0]} goes back to step {back:,.0f}; it was read from there on"
    joined = {tag: cut[tag] + x if tag in cut else x for tag, x in later.columns.items()}
    return Table(
        {**cut, **joined},
        {**earlier.texts, **later.texts},
        files=(*earlier.files, *later.files),
        notes=(*earlier.notes, *later.notes, *((note,) if goes_back else ())),
    )


def _before(x: Column, step: float) -> Column:
    return Column(x.steps[x.steps < step], x.values[x.steps < step])
