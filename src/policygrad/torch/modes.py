"""Layers that are not one policy while they train: dropout, and normalisation by the batch."""

from typing import Any

from policygrad.core.errors import UserError
from policygrad.environments.names import require_extra


def check_mode(module: Any) -> None:
    """Refuse a module with a layer in training mode that acts otherwise when it is evaluated.

    Raises:
        UserError: a dropout that is active, or a normalisation by the statistics of its input.
    """
    torch = require_extra("torch", "measuring a PyTorch policy")
    kinds = torch.nn.modules
    for name, layer in module.named_modules():
        if not layer.training:
            continue
        if _dropped(layer, kinds.dropout._DropoutNd) > 0:
            does = "it draws another mask in every pass"
        elif isinstance(layer, kinds.batchnorm._BatchNorm):
            does = "it normalises each step by the others of its batch, and changes its statistics"
        else:
            continue
        raise UserError(
            f"the layer {name.removeprefix('module.')} ({type(layer).__name__}) is in training "
            f"mode, where {does}, so that the gradients are not those of one policy; call "
            "module.eval() before you measure"
        )


def _dropped(layer: Any, dropout: type) -> float:
    """The share that a layer drops. Recurrent layers and attention keep theirs as a number."""
    share = layer.p if isinstance(layer, dropout) else getattr(layer, "dropout", 0.0)
    return share if isinstance(share, (int, float)) else 0.0
