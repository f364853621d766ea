"""Where to compute, and whether it computes in bfloat16: asked of the machine itself."""

import logging

import torch
import torch.nn.functional as F

_logger = logging.getLogger(__name__)


def pick_device(device: str | torch.device) -> torch.device:
    """The named device; "auto" takes cuda, else mps where it has all that vox2vec runs, else the CPU."""
    if str(device) != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if not torch.backends.mps.is_available():
        return torch.device("cpu")
    missing = missing_on(torch.device("mps"))
    if missing is not None:
        _logger.warning("mps lacks what vox2vec computes with (%s): computing on the CPU", missing)
    return torch.device("mps" if missing is None else "cpu")


def missing_on(device: torch.device) -> str | None:
    """What the device says to three-dimensional pooling, or to float64, if it cannot do both; None where it can."""
    try:
        F.max_pool3d(torch.zeros(1, 1, 2, 2, 2, device=device), 2)
        torch.zeros(1, dtype=torch.float64, device=device)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        return str(error).partition(". ")[0]
    return None


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the hardware itself does: GPUs before Ampere, such as V100 and T4, only emulate it, slower than float32.

    Of a CPU: AVX-512 or AMX instructions for it.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return _cpu_flag("_is_avx512_bf16_supported") or _cpu_flag("_is_amx_tile_supported")
    return False


def _cpu_flag(name: str) -> bool:
    """torch.cpu's own tests, private in the oldest versions we run on; a missing one counts as no."""
    return bool(getattr(torch.cpu, name, lambda: False)())
