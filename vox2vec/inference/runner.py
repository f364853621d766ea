"""The backbone as inference runs it: on a device, in a precision whose error was measured."""

import copy
import logging
from collections.abc import Callable
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vox2vec.nn.blocks import ResBlock3d
from vox2vec.nn.device import computes_in_bfloat16
from vox2vec.nn.fpn import FPN3d

logger = logging.getLogger(__name__)

Precision = Literal["auto", "32", "bf16"]
Runner = Callable[[Float[Tensor, "n c x y z"]], list[Tensor]]

WORST_ERROR = 0.01  # relative; above it "auto" stays with float32
COMPILE_FROM_WINDOWS = 600  # from about here torch.compile's 15 s are earned back, benchmarks/RESULTS.md


def backbone_runner(
    backbone: FPN3d,
    sample: Float[Tensor, "n c x y z"],
    *,
    device: torch.device,
    precision: Precision = "auto",
    compiled: bool = False,
) -> Runner:
    """A function from patches (on `device`) to pyramids that leaves `backbone` itself untouched.

    Args:
        sample: a typical patch; with precision "auto" bfloat16 is tried on it and kept where the hardware computes
            in it and no level's relative error exceeds 1 %.
        compiled: pass the network through torch.compile, with its weights frozen, on the CPU.
    """
    exact = copy.deepcopy(backbone).eval().requires_grad_(False).to(device)
    if precision == "32" or (precision == "auto" and not computes_in_bfloat16(device)):
        return _compiled(exact, sample.to(device)) if compiled else exact
    fast: Runner = _InBfloat16(exact)
    if compiled:
        fast = _compiled(fast, sample.to(device))
    if precision == "auto":
        error = relative_error(fast, exact, sample.to(device))
        kept = error <= WORST_ERROR
        logger.info("bfloat16: relative error %.2g%s", error, "" if kept else f", above {WORST_ERROR:g}: using float32")
        if not kept:
            return exact
    return fast


def relative_error(one: Runner, exact: Runner, patches: Float[Tensor, "n c x y z"]) -> float:
    """The largest over the levels of `|one - exact| / |exact|`, in the Euclidean norm; NaN where any is."""
    with torch.inference_mode():
        pairs = zip(one(patches), exact(patches), strict=True)
        errors = [(a.float() - b).norm() / b.norm().clamp(min=1e-12) for a, b in pairs]
        return float(torch.stack(errors).max())  # Python's max would pass over a NaN


class _InBfloat16(nn.Module):
    """A copy in bfloat16 and channels-last, each convolution merged with the batch norm that follows it.

    On a CPU with AMX this is 5 to 6 times faster than float32; torch.compile adds a sixth to that.
    """

    def __init__(self, backbone: FPN3d) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        for block in self.backbone.modules():
            if isinstance(block, ResBlock3d):
                norm, conv, next_norm, last_conv = (block.layers[i] for i in (0, 2, 3, 5))
                merged = fuse_conv_bn_eval(cast(nn.Conv3d, conv), cast(nn.BatchNorm3d, next_norm))
                block.layers = nn.Sequential(norm, nn.ReLU(inplace=True), merged, nn.ReLU(inplace=True), last_conv)
        self.backbone.to(torch.bfloat16).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, patches: Float[Tensor, "n c x y z"]) -> list[Tensor]:
        return self.backbone(patches.to(torch.bfloat16, memory_format=torch.channels_last_3d))


def _compiled(network: Runner, sample: Float[Tensor, "n c x y z"]) -> Runner:
    """`network` compiled for patches like `sample`; itself where this machine cannot compile (no C++ compiler, say)."""
    try:
        faster = torch.compile(network, options={"freezing": True})
        with torch.no_grad():
            faster(sample)
    except Exception as error:  # the compiler fails in many ways, and none may end a run that works without it
        logger.warning("torch.compile failed, going on without it: %s", error)
        return network
    return faster
