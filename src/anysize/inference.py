"""What a module has to be before it is asked for answers: in evaluation mode, and in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysize.errors import AnysizeError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["refuse_unready"]


def refuse_unready(
    module: nn.Module, name: str, *, error: type[AnysizeError], hint: str = ""
) -> None:
    """Refuse a module that is in training mode, or computes in another type than float32.

    Args:
        module: Every layer, parameter and buffer of it is looked at.
        name: How the message calls it.
        error: What is raised.
        hint: What the message says about other types, behind the way out.

    Raises:
        AnysizeError: An `error` that names the first layer or tensor in the way.
    """
    import torch

    for path, part in module.named_modules():
        if part.training:
            where = f"layer {path!r}" if path else "the module"
            raise error(
                f"{name}: {where} is in training mode, where dropout and batch normalisation do "
                "not infer; call .eval() first"
            )
    for path, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            got = str(tensor.dtype).removeprefix("torch.")
            raise error(f"{name}: {path!r} is {got}, expected float32; call .float() first{hint}")
