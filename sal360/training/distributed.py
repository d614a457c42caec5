"""One training on several processes: each takes its share of every batch, and all agree.

A recipe asks for the same steps on any number of processes. Every process (**rank**) holds the
whole network and reads its part of each batch; gradients are added up over the ranks before the
optimiser sees them, so all make the same step. A process that was started alone is a
:class:`World` of one, where all of this costs nothing, so the loop of
:mod:`sal360.training.fit` is written once. Chapter 16.

**The same to rounding, and rounding grows.** Sums are grouped by process. So the first loss agrees
with that of one process in six digits, and its gradient to 1e-5 or better in most networks (1e-3 in
the Spherical U-Net: rectifiers, and batch statistics of few pixels). Plain gradient descent keeps
it about so. Adam divides a gradient by its own size: a weight whose gradient is nearly 0 moves by
the whole rate, up or down as rounding has it, and after a few steps weights of one process and of
two lie apart by far more than rounding. What a run on another number of processes repeats is
the recipe, not the weights.

**Sums, not means.** A loss is a mean over the frames that have a truth. A rank multiplies its
mean by its share of those frames (:meth:`World.sum` counts them), and gradients are *added*: the
mean over the whole batch, however unevenly truth is spread over the ranks. (CP-360's published
losses are sums already.)

**Why not DistributedDataParallel?** It sends gradients while a backward pass still runs, and for
that it must know which pass is the last. Here a step has several (truncated back-propagation,
accumulation), through ``step`` and not ``forward``. It also rearranges its buckets after the first
step it sees; sums of three or more ranks then round otherwise, and a run that is resumed would
not end in the same bits as one that never stopped. So :meth:`World.sum_gradients` does what it
does inside, after the last pass and in an order that never changes: gradients are laid end to end
in buckets, each is summed by ``all_reduce``, and copied back. What that costs beside it is
measured by ``python -m benchmarks scaling``; the networks here have a megabyte of gradients or
less at the smaller scales, and 50 at the largest.

**When one process ends**, the others say so in one line (:class:`ProcessLost`), at the next thing
they would have done together; nothing that was written is half of anything. An error that all can
know of (:meth:`World.each`) is raised by all.

**Batch normalisation** takes its statistics over the batch, so each rank would have its own;
:meth:`World.prepare` exchanges the layers for those of :mod:`sal360.training.shared_norm`.

On one machine, and on two of four GPUs each (``HOST`` is the first one's address; both see the
same data and the same folder for ``--out``; only rank 0 writes)::

    torchrun --nproc-per-node 2 -m sal360 train sst-sal --data worlds
    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        -m sal360 train sst-sal --data worlds
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
BUCKET = 25 << 20
"""Bytes of gradients that are summed at once, torch's own choice."""


class ProcessLost(RuntimeError):
    """Another process of the run ended, or cannot be reached."""


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: which of them, from 0. size: how many. device: where this one computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and speaks: rank 0."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Small numbers (counts, a loss) summed over all processes, where they came from."""
        if self.size == 1:
            return values
        total = values.detach().cpu().clone()
        with self._reached():
            dist.all_reduce(total)
        return total.to(values.device)

    def any(self, flag: bool) -> bool:
        """Whether one process at least says yes: to stop at the same step, all ask at each."""
        return bool(self.sum(torch.tensor(int(flag))))

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order of rank, on each of them."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with self._reached():
            dist.all_gather_object(found, value)
        return found

    def each(self, call: Callable[[], T]) -> list[T]:
        """What ``call`` returns on each process, on all of them.

        Raises:
            What it raised on the first process where it did, on all: nobody is left waiting.
        """
        if self.size == 1:
            return [call()]
        answer, error = None, None
        try:
            answer = call()
        except ProcessLost:
            raise
        except Exception as raised:
            error = raised
        found = self.gather((answer, error))
        for _, other in found:
            if other is not None:
                raise other
        return [each for each, _ in found]

    def on_main(self, call: Callable[[], T]) -> T:
        """Have rank 0 do something, and give all what it returned, or raised."""
        return self.each(lambda: call() if self.main else None)[0]  # type: ignore[return-value]

    def same(self, name: str, value: Any) -> None:
        """See that all processes were given the same: a digest, a step, a plan.

        Raises:
            ValueError: on all of them, if they were not.
        """
        for rank, other in enumerate(found := self.gather(value)):
            if other != found[0]:
                raise ValueError(
                    f"{name}: {other!r} on rank {rank}, wanted {found[0]!r} as on rank 0"
                )

    def prepare(self, model: nn.Module) -> nn.Module:
        """A network that trains on several processes as it would on one: rank 0's weights, and
        batch statistics over all ranks. Call it once, before the optimiser is made."""
        if self.size == 1:
            return model
        from sal360.training.shared_norm import share_norms

        model = share_norms(model)
        with self._reached():
            for tensor in (*model.parameters(), *model.buffers()):
                dist.broadcast(tensor.detach(), 0)
        return model

    def sum_gradients(self, model: nn.Module, bucket: int = BUCKET) -> None:
        """Sum the gradients of all processes, in place; after the last backward pass of a step.

        A parameter that no process has a gradient for is left without. Order and grouping depend
        on the network alone, so the sums do.

        Args:
            bucket: bytes that are summed at once.
        """
        if self.size == 1:
            return
        learnt = [p for p in model.parameters() if p.requires_grad]
        had = self.sum(torch.tensor([p.grad is not None for p in learnt], dtype=torch.int32))
        gradients = []
        for p, ranks in zip(learnt, had.tolist(), strict=True):
            if ranks:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                gradients.append(p.grad)
        sent = []
        with self._reached():
            for group in _buckets(gradients, bucket):
                flat = torch.cat([g.flatten() for g in group])
                sent.append((group, flat, dist.all_reduce(flat, async_op=True)))
            for group, flat, work in sent:
                work.wait()
                for g, part in zip(group, flat.split([g.numel() for g in group]), strict=True):
                    g.copy_(part.view_as(g))

    def barrier(self) -> None:
        """Wait for all, as for a file that rank 0 writes and all read."""
        self.sum(torch.zeros(()))

    def close(self) -> None:
        """Leave; a process of its own has nothing to leave."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """One line in place of what the transport has to say of a process that is gone."""
        try:
            yield
        except RuntimeError as error:
            why = str(error).splitlines()[0]
            raise ProcessLost(
                f"rank {self.rank} of {self.size}: another process ended or cannot be reached "
                f"({why})"
            ) from None


ALONE = World()
"""One process, on the CPU."""


def setup(device: str | torch.device | None = None, timeout_s: float = 1800.0) -> World:
    """The world that ``torchrun`` started this process in; of one, if nothing did.

    Small messages go between CPUs (gloo), tensors of a GPU between GPUs (NCCL).

    Args:
        device: ``"cpu"``, ``"cuda"`` or, of a single process, any; None: a GPU if there is one.
        timeout_s: how long to wait for the others before giving up.
    Raises:
        ValueError: more processes than GPUs on this machine, a device that all would share or
            that torch does not know, an environment that is not torchrun's.
        ProcessLost: the others did not come.
    """
    try:
        chosen = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if device is None else device
        )
    except RuntimeError:  # torch's own line names all that it was ever built for
        raise ValueError(f"device: {device!r}, wanted cpu or cuda") from None
    size = _whole("WORLD_SIZE", 1)
    if size == 1:
        return World(device=chosen)
    rank, local = _whole("RANK"), _whole("LOCAL_RANK")
    if chosen.type == "cuda":
        if chosen.index is not None:
            raise ValueError(f"device: {chosen}, wanted cuda: each of {size} processes has its own")
        here, cards = _whole("LOCAL_WORLD_SIZE", size), torch.cuda.device_count()
        if here > cards:
            raise ValueError(f"nproc-per-node: {here}, wanted at most {cards}, the GPUs there are")
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    elif chosen.type != "cpu":
        raise ValueError(f"device: {chosen}, wanted cpu or cuda for {size} processes")
    world = World(rank, size, chosen)
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    with world._reached():
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    return world


def _whole(name: str, otherwise: int | None = None) -> int:
    """A number that torchrun left in the environment."""
    text = os.environ.get(name)
    if text is None and otherwise is not None:
        return otherwise
    if text is None or not text.isdecimal():
        raise ValueError(f"{name}: {text!r} in the environment, wanted a number, as torchrun sets")
    return int(text)


def _buckets(gradients: list[Tensor], limit: int) -> Iterator[list[Tensor]]:
    """Gradients in their order, so many bytes at a time, each group of one kind."""
    group: list[Tensor] = []
    held = 0
    for gradient in gradients:
        other = group and (group[0].dtype, group[0].device) != (gradient.dtype, gradient.device)
        if group and (other or held + gradient.nbytes > limit):
            yield group
            group, held = [], 0
        group.append(gradient)
        held += gradient.nbytes
    if group:
        yield group
