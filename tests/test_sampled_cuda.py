"""Every route that a GPU may take, held against the CPU's operator, on the CPU.

Triton's kernels run here only where Triton is installed and ``TRITON_INTERPRET=1`` asks for its
interpreter; otherwise those cases are skipped, and say so. On a GPU they run as they are.
"""

import os
from importlib.util import find_spec

import pytest
import torch

from sal360 import patterns
from sal360.nn import sampled, sampled_cuda
from sal360.nn.reads import out_size, reads_of

INTERPRETED = find_spec("triton") is not None and os.environ.get("TRITON_INTERPRET") == "1"
needs_triton = pytest.mark.skipif(not INTERPRETED, reason="needs Triton and TRITON_INTERPRET=1")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ROUTES = [
    "bags",
    "csr",
    pytest.param("sums", marks=needs_triton),
    pytest.param("product", marks=needs_triton),
]
PATTERNS = {
    "tangent": lambda: patterns.tangent_pattern(7, 15),
    "stride": lambda: patterns.tangent_pattern(8, 16, stride=2),
    "crown": lambda: patterns.crown_pattern(6, 13, (3, 4), 1.0),
}


def case(name, project_first, dtype=torch.float64, I=5, O=3, groups=1):
    pattern = PATTERNS[name]()
    torch.manual_seed(0)
    x = torch.randn(2, I, pattern.H, pattern.W, dtype=dtype)
    kernel = torch.randn(O, I // groups, pattern.taps, dtype=dtype)
    bias = torch.randn(O, dtype=dtype)
    reads = reads_of(pattern, dtype=sampled.computing_dtype(x), products=project_first)
    return x, kernel, bias, reads, out_size(pattern)


def answers(call, *tensors):
    """The value and the gradients of a fixed functional."""
    tensors = [t.clone().requires_grad_() for t in tensors]
    out = call(*tensors)
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return out, *torch.autograd.grad(out, tensors, pull)


@pytest.mark.parametrize("how", ROUTES)
@pytest.mark.parametrize("project_first", [False, True])
@pytest.mark.parametrize("name", PATTERNS)
def test_value_and_gradients(name, project_first, how):
    dtype = torch.float32 if how == "product" else torch.float64
    if project_first and name == "stride":
        pytest.skip("the operator reads first where kernels stand apart")
    x, kernel, bias, reads, size = case(name, project_first, dtype)

    def run(function, **settings):
        return answers(
            lambda x, k, b: function(x, k, reads, size, b, 1, project_first, **settings),
            *(x, kernel, bias),
        )

    got = run(sampled_cuda.convolve, how=how)
    rtol, atol = (1e-4, 1e-5) if how == "product" else (1e-9, 1e-12)
    for a, b in zip(got, run(sampled.convolve), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("how", ["bags", "csr", pytest.param("sums", marks=needs_triton)])
@pytest.mark.parametrize("project_first", [False, True])
def test_gradcheck_twice(how, project_first):
    pattern = patterns.tangent_pattern(4, 5)
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(2, 2, 9, dtype=torch.float64, requires_grad=True)
    reads = reads_of(pattern, dtype=torch.float64, products=project_first)

    def call(x, kernel):
        return sampled_cuda.convolve(x, kernel, reads, (4, 5), None, 1, project_first, how)

    assert torch.autograd.gradcheck(call, (x, kernel), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, kernel), fast_mode=True)


@needs_triton
def test_second_derivatives_of_the_product():
    x, kernel, _, reads, size = case("tangent", False, torch.float32)

    def second(function, **settings):
        a, b = x.clone().requires_grad_(), kernel.clone().requires_grad_()
        out = function(a, b, reads, size, **settings)
        first = torch.autograd.grad(out.square().sum(), (a, b), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), (a, b))

    for a, b in zip(
        second(sampled_cuda.convolve, how="product"), second(sampled.convolve), strict=True
    ):
        assert (a - b).norm() < 1e-5 * b.norm()


@pytest.mark.parametrize("how", ["bags", "csr", pytest.param("sums", marks=needs_triton)])
def test_groups(how):
    x, kernel, bias, reads, size = case("tangent", False, I=6, O=4, groups=2)

    def run(function, **settings):
        return answers(
            lambda x, k, b: function(x, k, reads, size, b, 2, **settings), x, kernel, bias
        )

    for a, b in zip(run(sampled_cuda.convolve, how=how), run(sampled.convolve), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("how", ROUTES)
def test_half_precision(how):
    """Sums run in float32: the error is that of rounding inputs and the answer."""
    x, kernel, bias, reads, size = case("tangent", False, torch.float32, I=20, O=17)
    # Triton's interpreter multiplies bfloat16 as if it were whole numbers.
    dtype = torch.float16 if how == "product" else torch.bfloat16
    low = [t.to(dtype) for t in (x, kernel, bias)]
    got = answers(lambda x, k, b: sampled_cuda.convolve(x, k, reads, size, b, how=how), *low)
    exact = answers(
        lambda x, k, b: sampled.convolve(x, k, reads, size, b), *(t.float() for t in low)
    )
    for a, b in zip(got, exact, strict=True):
        assert a.dtype == dtype
        assert (a.float() - b).norm() < 1e-2 * b.norm()


def test_autocast_decides_the_dtype():
    x, kernel, bias, reads, size = case("tangent", False, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (
            sampled_cuda.convolve(x, kernel, reads, size, bias, how="bags").dtype == torch.bfloat16
        )
        double = sampled_cuda.convolve(
            x.double(), kernel.double(), reads.to("cpu", torch.float64), size, how="bags"
        )
    assert double.dtype == torch.float64


def test_tap_tables_agree_from_both_sides():
    """The same entries, whether they are derived from samples or from products."""
    pattern = patterns.tangent_pattern(5, 8)
    sides = []
    for products in (False, True):
        taps = sampled_cuda.taps_of(reads_of(pattern, products=products), 9, products)
        dense = torch.zeros(2, 5 * 8 * 9, 5 * 8)
        for i, table in enumerate((taps.forward, taps.backward)):
            owner = torch.repeat_interleave(torch.arange(360), torch.diff(table.starts))
            dense[i].index_put_((owner, table.rows.long()), table.weights, accumulate=True)
        sides.append(dense)
    torch.testing.assert_close(*sides)
    forward, backward = sides[0].unflatten(1, (40, 9))
    torch.testing.assert_close(forward, backward.permute(2, 1, 0))


def as_they_come(numbers):
    """The same numbers as views of any kind; a kernel is told nothing but where they begin."""
    wide = torch.stack((numbers, torch.full_like(numbers, torch.nan)), -1)
    return {
        "every second": wide[..., 0],
        "transposed": numbers.transpose(0, -1).contiguous().transpose(0, -1),
        "from the middle": torch.cat((numbers + 1, numbers))[len(numbers) :],
        "negative": torch._neg_view(-numbers),
    }


@pytest.mark.parametrize("how", ROUTES)
@pytest.mark.parametrize("which", ["image", "kernel", "bias", "gradient"])
def test_operands_of_any_strides(which, how):
    x, kernel, bias, reads, size = case("tangent", False, torch.float32)
    operands = {"image": x, "kernel": kernel, "bias": bias}
    pull = torch.randn(2, 3, *size)
    kinds = as_they_come({**operands, "gradient": pull}[which])
    if which == "bias":
        kinds["expanded"] = torch.full((1,), 0.3).expand(3)
    if which == "gradient":
        kinds["expanded"] = torch.full((1, 1, 1, 1), 0.3).expand(pull.shape)
        kinds["without memory"] = torch._efficientzerotensor(pull.shape)

    def run(function, view, **settings):
        given = {name: t.clone().requires_grad_() for name, t in operands.items()}
        if which != "gradient":
            given[which] = view.detach().requires_grad_()
        x, kernel, bias = given.values()
        out = function(x, kernel, reads, size, bias, **settings)
        pulled = view if which == "gradient" else pull
        return out, *torch.autograd.grad(out, list(given.values()), pulled)

    for name, view in kinds.items():
        got = run(sampled_cuda.convolve, view, how=how)
        wanted = run(sampled.convolve, view + 0)
        for a, b in zip(got, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=f"{which} {name}")


@pytest.mark.parametrize("how", ROUTES)
def test_no_images(how):
    x, kernel, bias, reads, size = case("tangent", False, torch.float32)
    for part in (kernel, bias):
        part.requires_grad_()
    out = sampled_cuda.convolve(x[:0], kernel, reads, size, bias, how=how)
    assert out.shape == (0, 3, 7, 15)
    out.sum().backward()
    assert not kernel.grad.any() and not bias.grad.any()


@needs_triton
def test_tables_of_any_strides():
    from sal360.nn import triton_sampled

    x, kernel, bias, reads, _ = case("tangent", False, torch.float32)
    taps = sampled_cuda.taps_of(reads, 9, False)
    pixels, matrix = x.flatten(2).mT.contiguous(), kernel.permute(2, 1, 0).contiguous()
    wide = [torch.stack((part, part * 0), 1)[:, 0] for part in taps.forward]
    for call in (
        lambda table: triton_sampled.sums(pixels, *table),
        lambda table: triton_sampled.product(pixels, matrix, bias, *table),
        lambda table: triton_sampled.weight_gradient(pixels, pixels, 9, *table),
    ):
        assert torch.equal(call(wide), call(taps.forward))


@needs_gpu
@pytest.mark.parametrize("how", sampled_cuda.ROUTES)
@pytest.mark.parametrize("name", PATTERNS)
def test_on_the_gpu(name, how):
    x, kernel, bias, reads, size = case(name, False, torch.float32, I=32, O=48)
    there = reads.to("cuda", torch.float32)
    got = answers(
        lambda x, k, b: sampled_cuda.convolve(x, k, there, size, b, how=how),
        *(t.cuda() for t in (x, kernel, bias)),
    )
    exact = answers(lambda x, k, b: sampled.convolve(x, k, reads, size, b), x, kernel, bias)
    for a, b in zip(got, exact, strict=True):
        assert (a.cpu() - b).norm() < 1e-5 * b.norm()
