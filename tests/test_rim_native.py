"""The compiled way to pad cubes against torch's operators."""

import threading

import pytest
import torch

from sal360.nn import CubePad2d, rim_native
from sal360.nn.cube import cube_rim

pytestmark = pytest.mark.skipif(
    rim_native.compiled is None, reason="installing sal360 found no C compiler"
)
CPU = torch.device("cpu")


@pytest.fixture
def calls(monkeypatch):
    """How often the compiled part was asked, each way."""
    count, compiled = {"pad": 0, "unpad": 0}, rim_native.compiled

    class Counted:
        @staticmethod
        def pad(*given):
            count["pad"] += 1
            return compiled.pad(*given)

        @staticmethod
        def unpad(*given):
            count["unpad"] += 1
            return compiled.unpad(*given)

    monkeypatch.setattr(rim_native, "compiled", Counted)
    return count


def both(pad, x, pull, monkeypatch):
    """Values and gradients, compiled and not."""
    results = []
    for compiled in (rim_native.compiled, None):
        with monkeypatch.context() as patch:
            patch.setattr(rim_native, "compiled", compiled)
            given = x.detach().clone().requires_grad_()
            out = pad(given)
            results.append((out.detach(), *torch.autograd.grad(out, given, pull(out))))
    return results


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", ["copy", "reproject"])
@pytest.mark.parametrize(
    ("shape", "padding"),
    [
        ((12, 3, 5, 5), 1),
        ((2, 6, 5, 16, 16), (2, 0, 1, 9)),
        ((6, 1, 1, 1), 2),
        ((3, 6, 2, 4, 4), (0, 3, 0, 0)),
        ((6, 40, 33, 33), 3),
    ],
)
def test_values_and_gradients_are_those_of_torch(shape, padding, mode, dtype, calls, monkeypatch):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype)
    pad = CubePad2d(padding, mode)
    ours, theirs = both(pad, x, lambda out: torch.sin(out.detach()) + 1, monkeypatch)
    assert calls == {"pad": 1, "unpad": 1}
    near = 2e-6 if dtype == torch.float32 else 1e-14
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape and mine.dtype == dtype
        torch.testing.assert_close(mine, other, atol=near * 8, rtol=near)
    rim = cube_rim(shape[-1], pad.padding, mode, CPU)
    flat = [out.reshape(-1, 6, shape[-3], *rim.size).movedim(1, 2).flatten(2) for out in
            (ours[0], theirs[0])]  # fmt: skip
    assert torch.equal(flat[0][..., rim.put], flat[1][..., rim.put])  # what is copied is copied


@pytest.mark.parametrize("mode", ["copy", "reproject"])
def test_threads_change_nothing(mode):
    x = torch.randn(18, 32, 24, 24)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            given = x.clone().requires_grad_()
            out = CubePad2d(2, mode)(given)
            found.append((out.detach(), *torch.autograd.grad(out.sin().sum(), given)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_gradients_in_double_and_of_gradients(calls):
    x = torch.randn(6, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    for mode in ("copy", "reproject"):
        pad = CubePad2d((1, 2, 0, 4), mode)
        assert torch.autograd.gradcheck(pad, x, fast_mode=True)
        assert torch.autograd.gradgradcheck(pad, x, fast_mode=True)
    assert min(calls.values()) > 4


def test_views_of_any_kind(calls):
    pad, x = CubePad2d(1), torch.randn(6, 4, 8, 8)
    kinds = {
        "transposed": x.transpose(-1, -2),
        "every second": torch.randn(6, 8, 8, 8)[:, ::2],
        "channels last": x.to(memory_format=torch.channels_last),
        "expanded": x[:, :1].expand(-1, 4, -1, -1),
        "from the middle": torch.randn(18, 4, 8, 8)[6:12],
    }
    for name, view in kinds.items():
        assert torch.equal(pad(view), pad(view.clone(memory_format=torch.contiguous_format))), name
    assert calls["pad"] == 2 * len(kinds)
    minus = torch.complex(x, x).conj().imag
    assert minus.is_neg()
    nothing = torch._efficientzerotensor((6, 2, 8, 8))  # no memory behind it
    assert torch.equal(pad(nothing), torch.zeros(6, 2, 10, 10))
    torch.testing.assert_close(pad(minus), -pad(x))


def test_a_gradient_that_has_no_memory():
    """What torch hands on for the derivative of a step: a tensor of zeros that points nowhere."""
    x = torch.randn(6, 1, 4, 4, requires_grad=True)
    CubePad2d(1)(x).sgn().sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_infinities_and_empty_batches(calls):
    pad, x = CubePad2d(1), torch.zeros(6, 1, 8, 8)
    x[0, 0, 4, 4] = torch.inf
    assert int(pad(x).isinf().sum()) == 1 and not pad(x).isnan().any()
    for shape in ((0, 3, 8, 8), (6, 0, 8, 8), (0, 6, 3, 8, 8)):
        assert pad(torch.rand(shape)).shape == (*shape[:-2], 10, 10)
    assert calls["pad"] == 5


def test_what_is_watched_goes_through_torch(calls):
    """A program that is recorded must see every operation; the compiled part would be lost."""
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.utils.flop_counter import FlopCounterMode

    pad, x = CubePad2d(1), torch.randn(6, 2, 8, 8)
    recorded, early = make_fx(pad)(x), make_fx(pad, pre_dispatch=True)(x)
    exported = torch.export.export(pad, (x,)).module()
    with FlopCounterMode(display=False):
        pad(x)
    torch.func.vmap(pad)(torch.randn(3, 6, 2, 8, 8).requires_grad_())
    assert calls["pad"] == 1  # a map of many is one call, and nobody looks on
    y = torch.randn(6, 2, 8, 8)
    for program in (recorded, early, exported):
        torch.testing.assert_close(program(y), pad(y))
    pad(x.bfloat16()), pad(x.half())
    assert calls["pad"] == 4


def test_in_inference_mode_first_then_in_training_and_from_many_threads():
    pad = CubePad2d(1, "reproject")
    with torch.inference_mode():
        pad(torch.rand(6, 3, 13, 13))
    x = torch.rand(6, 3, 13, 13)
    want, wrong = pad(x), []

    def work():
        for _ in range(50):
            given = x.clone().requires_grad_()
            out = pad(given)
            out.sum().backward()
            if not torch.equal(out.detach(), want) or given.grad is None:
                wrong.append(out)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong
