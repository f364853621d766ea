"""Training: pre-training of backbones, and of heads on them; `pretrain` is the door."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vox2vec.training.run import pretrain

__all__ = ["pretrain"]


def __getattr__(name: str) -> Any:
    """`pretrain`, whose import loads Lightning, when it is first asked for."""
    if name != "pretrain":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vox2vec.training.run import pretrain

    return pretrain
