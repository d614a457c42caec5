"""Batch normalisation over the clips of all processes, so that how many there are changes nothing.

Torch's own ``SyncBatchNorm`` does this on GPUs only; this one is ordinary tensor operations and one
exchange each way, and is tested on CPUs. Chapter 16.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SharedBatchNorm(nn.BatchNorm2d):
    """``BatchNorm2d`` whose mean and variance are those of the batches of all processes.

    In evaluation mode, or alone, it is ``BatchNorm2d``. All processes must call it equally often,
    in training mode, forwards and backwards.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        values = x if x.dtype == torch.float64 else x.float()
        here = torch.stack((values.mean((0, 2, 3)), values.var((0, 2, 3), correction=0)))
        count = values.new_full((1, here.shape[1]), x.numel() / x.shape[1])
        counts, means, variances = _Gathered.apply(torch.cat((count, here))).unbind(1)
        total = counts[:, 0].sum()
        share = counts / total
        mean = (share * means).sum(0)
        # Within the processes, and between them: no difference of large squares.
        variance = (share * (variances + (means - mean).square())).sum(0)
        self._remember(mean.detach(), variance.detach() * total / (total - 1))
        out = (values - mean[:, None, None]) * (variance + self.eps).rsqrt()[:, None, None]
        if self.weight is not None:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        return out.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as ``BatchNorm2d`` does."""
        if self.running_mean is None or self.running_var is None:
            return
        share = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if share is None else share
        self.running_mean.lerp_(mean.to(self.running_mean), share or 0.0)
        self.running_var.lerp_(variance.to(self.running_var), share or 0.0)


def share_norms(model: nn.Module) -> nn.Module:
    """Exchange every ``BatchNorm2d`` in place; parameters, buffers and their names stay.

    The network itself is given back, or its exchange if it is one.
    """
    if isinstance(model, nn.BatchNorm2d) and not isinstance(model, SharedBatchNorm):
        shared = SharedBatchNorm(
            model.num_features, model.eps, model.momentum, model.affine, model.track_running_stats
        )
        shared.weight, shared.bias = model.weight, model.bias
        for name, buffer in model.named_buffers(recurse=False):
            setattr(shared, name, buffer)
        return shared.train(model.training)
    for name, child in model.named_children():
        setattr(model, name, share_norms(child))
    return model


class _Gathered(torch.autograd.Function):
    """``(N, C)`` of each process to ``(ranks, N, C)`` on all; backwards, the sum over processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        found = [torch.empty_like(values) for _ in range(dist.get_world_size())]
        dist.all_gather(found, values.contiguous())
        return torch.stack(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]
