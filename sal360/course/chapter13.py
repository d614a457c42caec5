"""Chapter 13: exercises on counting, skips, gradients that never arrive, and exact turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from sal360.course.checking import Case, ask, exercise
from sal360.projections import cube_to_erp

__all__ = ["FAULTS", "back_to_panorama", "planted_network", "planted_turner"]

FAULTS = ("cut", "times zero", "unused")
Network = Callable[[Tensor], Tensor]


def back_to_panorama(maps: Tensor, H: int) -> Tensor:
    """Maps on six faces ``(B, 6, 1, S, S)`` laid on the panorama, ``(B, 1, H, 2H)``.

    By way of numpy: what a program does that keeps its projections in another file. This is the
    fault that chapter 13 is about, and nothing in the package calls it.
    """
    faces = torch.tensor(maps.detach().numpy())
    return cube_to_erp(faces, H).requires_grad_()


def _numbers(inputs: int, taps: Sequence[int], widths: Sequence[int], *, skips: bool = True,
             bias: bool = True, norms: bool = True) -> int:  # fmt: skip
    """Parameters of the seven-layer U-Net."""
    w = widths
    beside = (0, 0, 0, 0, w[2], w[1], w[0]) if skips else (0,) * 7
    into = [n + more for n, more in zip((inputs, *w[:-1]), beside, strict=True)]
    total = sum(i * k * o for i, k, o in zip(into, taps, w, strict=True))
    return total + bias * sum(w) + norms * 2 * sum(w[:-1])


@exercise("13.1")
def count_numbers(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(inputs, taps, widths, bias) -> `` parameters of a U-Net of seven convolutions."""
    for inputs, taps, w, bias in (
        (1, (1,) * 7, (1,) * 7, False),
        (4, (9,) * 7, (2,) * 6 + (1,), True),
        (4, (9,) * 7, (64, 128, 256, 256, 128, 64, 1), True),
        (4, (128, 32, 32, 128, 32, 32, 32), (64, 128, 256, 256, 128, 64, 1), False),
        (3, (5, 4, 3, 2, 3, 4, 5), (3, 5, 7, 11, 6, 4, 1), True),
    ):
        wanted = _numbers(inputs, taps, w, bias=bias)
        got = float(ask(answer, inputs, taps, w, bias))
        slips = {
            "the skips bring channels, too": _numbers(inputs, taps, w, skips=False, bias=bias),
            "batch norms have a scale and a shift a channel": _numbers(
                inputs, taps, w, bias=bias, norms=False
            ),
            "running means and variances are not trained": wanted + 2 * sum(w[:-1]),
            "is there a bias?": _numbers(inputs, taps, w, bias=not bias),
        }
        hints = [text for text, slip in slips.items() if got == slip]
        told = f" ({hints[0]})" if hints else ""
        yield Case(
            "weights, biases and norms, skips included",
            got == wanted,
            f"{inputs} channels in, taps {taps}, widths {w}, bias {bias}: you gave {got:,.0f}, "
            f"wanted {wanted:,}{told}",
        )


def _doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -2).repeat_interleave(2, -1)


@exercise("13.2")
def put_beside(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(x, seen) -> `` ``x`` doubled by repetition, cropped, with ``seen`` behind it."""
    draw = torch.Generator().manual_seed(132)
    for h, w, H, W in ((1, 1, 2, 2), (2, 3, 4, 6), (2, 3, 3, 6), (3, 4, 6, 7), (5, 9, 9, 17)):
        x, seen = (torch.rand(2, c, *size, generator=draw)
                   for c, size in ((3, (h, w)), (2, (H, W))))  # fmt: skip
        x.requires_grad_()
        wanted = torch.cat((_doubled(x)[..., :H, :W], seen), 1)
        got = torch.as_tensor(ask(answer, x, seen))
        yield Case("channels of both, at the size of what was seen", got.shape == wanted.shape,
                   f"{h} x {w} beside {H} x {W}: you gave shape {tuple(got.shape)}, wanted "
                   f"{tuple(wanted.shape)}")  # fmt: skip
        other = torch.cat((seen, _doubled(x)[..., :H, :W]), 1)
        hint = " (what was seen stands behind)" if torch.equal(got, other) else ""
        yield Case("each pixel becomes a block of two by two, from the upper left",
                   torch.allclose(got.to(wanted), wanted, atol=1e-6),
                   f"{h} x {w} beside {H} x {W}: other numbers, by up to "
                   f"{float((got - wanted).detach().abs().max()):.2g}{hint}")  # fmt: skip
        yield Case("gradients come back through it", got.requires_grad,
                   f"{h} x {w} beside {H} x {W}: the answer has left the graph")  # fmt: skip


class _Planted(nn.Module):
    """Four ways into one sum, each a convolution; faults close some of them.

    ``sound`` has a kernel of which only the left and the right tap count, and only by their
    difference: its gradient lives, though most of it is zero and its sum is, too.
    """

    sound: nn.Conv2d

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__()
        self.faults = tuple(faults)
        names = ("sound", *(fault.replace(" ", "_") for fault in FAULTS))
        for name in names:
            setattr(self, name, nn.Conv2d(1, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.sound.weight[..., 1:2, :1], self.sound.weight[..., 1:2, 2:]
        out: Tensor = nn.functional.conv2d(
            x, torch.cat((left - right, torch.zeros_like(left), right - left), -1),
            self.sound.bias, padding=(0, 1))  # fmt: skip
        cut, zero, unused = (getattr(self, fault.replace(" ", "_")) for fault in FAULTS)
        out = out + (torch.tensor(cut(x).detach().numpy()) if "cut" in self.faults else cut(x))
        out = out + zero(x) * (0.0 if "times zero" in self.faults else 1.0)
        return out if "unused" in self.faults else out + unused(x)


def planted_network(*faults: str) -> _Planted:
    """A network ``(B, 1, H, W) -> (B, 1, H, W)`` some of whose layers get no gradient.

    Args:
        faults: of ``"cut"`` (a layer's answer leaves the graph), ``"times zero"`` (it is
            multiplied by 0), ``"unused"`` (nobody asks for it). Each hits the layer of its name.
    """
    if unknown := set(faults) - set(FAULTS):
        raise ValueError(f"faults: {sorted(unknown)}, wanted some of {FAULTS}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(133)
        return _Planted(faults)


@exercise("13.3")
def find_the_dead(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(network, x) -> set`` of the names of parameters that no gradient reaches."""
    planted = [faults for n in range(len(FAULTS) + 1) for faults in combinations(FAULTS, n)]
    x = torch.rand(1, 1, 4, 8, generator=torch.Generator().manual_seed(133))
    for faults in planted:
        network = planted_network(*faults)
        dead = {f"{fault.replace(' ', '_')}.{part}" for fault in faults
                for part in ("weight", "bias")}  # fmt: skip
        before = {k: v.clone() for k, v in network.state_dict().items()}
        kept = torch.ones(1)
        network.sound.bias.grad = kept.clone()  # type: ignore[union-attr]
        got = set(ask(answer, network, x))
        told = f"planted: {', '.join(faults) or 'nothing'}"
        alive = " (some of its gradient is not zero)" if got - dead == {"sound.weight"} else ""
        yield Case("nothing that lives is blamed", not got - dead,
                   f"{told}; you blame {sorted(got - dead)[:3]}{alive}")  # fmt: skip
        zeros = {name for name in dead - got if name.startswith("times")}
        hint = " (a gradient of zeros moves nothing either)" if zeros else ""
        yield Case("every dead parameter is found", not dead - got,
                   f"{told}; you missed {sorted(dead - got)[:3]}{hint}")  # fmt: skip
        same = all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
        left = network.sound.bias.grad  # type: ignore[union-attr]
        yield Case("the network is left as it was", same and left is not None
                   and torch.equal(left, kept),
                   f"{told}: weights or stored gradients have changed")  # fmt: skip


def planted_turner(kind: str) -> Network:
    """A network ``(1, 1, H, W) -> (1, 1, H, W)`` that treats turns in a way of its own.

    Args:
        kind: ``"any"``, ``"2"``, ``"4"``, ``"6"``, ``"8"``: turns by so many columns are exact;
            ``"zeros"``: zeros stand beyond the seam; ``"twice"``: the last column is the first
            one again; ``"column 0"``: only what lies there is treated differently.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(134)
        mix = nn.Conv2d(1, 1, (1, 5), bias=False).requires_grad_(False)

    def around(x: Tensor, mode: str = "circular") -> Tensor:
        pads: Tensor = nn.functional.pad(x, (2, 2, 0, 0), mode=mode)
        out: Tensor = mix(pads.to(mix.weight.dtype)).to(x)
        return torch.tanh(out)

    def network(x: Tensor) -> Tensor:
        if kind == "any":
            return around(x)
        if kind == "zeros":
            return around(x, "constant")
        if kind == "twice":
            return around(torch.cat((x[..., :-1], x[..., :1]), -1))
        if kind == "column 0":
            out = around(x)
            return torch.cat((out[..., :1] * 0.99, out[..., 1:]), -1)
        step = int(kind)
        small = nn.functional.max_pool2d(x, (1, step))
        return around(around(small).repeat_interleave(step, -1) + x)

    if kind not in ("any", "zeros", "twice", "column 0", "2", "4", "6", "8"):
        raise ValueError(f"kind: {kind!r}, wanted 'any', '2', '4', '6', '8', 'zeros', 'twice' "
                         "or 'column 0'")  # fmt: skip
    return network


@exercise("13.4")
def exact_turns(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(network, H, W) -> `` fewest columns by which a turn is exact, ``W`` if none is."""
    H, W = 4, 48
    kinds = {"any": 1, "2": 2, "4": 4, "zeros": W, "6": 6, "8": 8, "twice": W,
             "column 0": W}  # fmt: skip
    for kind, wanted in kinds.items():
        got = float(ask(answer, planted_turner(kind), H, W))
        hint = " (only the whole way round)" if wanted == W and math.isfinite(got) else ""
        if got < wanted < W:
            hint = " (with your input, what else would pass?)"
        yield Case(
            "the fewest columns, from 1 to W, by which every turn is exact",
            got == wanted,
            f"planted {kind!r}, {H} x {W}: you gave {got:g}, wanted {wanted}{hint}",
        )
