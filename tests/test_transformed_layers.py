"""Layers under torch.func: gradients of single images, many networks at once, Jacobians."""

import pytest
import torch
from torch.func import functional_call, grad, jacrev, vmap

from sal360.nn import (
    CrownConv2d,
    CubePad2d,
    RingConv2d,
    SphereConv2d,
    SphereMaxPool2d,
    rim,
    sampled,
)
from sal360.nn.cube import cube_rim
from sal360.projections import erp_to_cube

LAYERS = {
    "tangent": (SphereConv2d(2, 2), (1, 2, 6, 12)),
    "reads first": (SphereConv2d(2, 4, stride=2), (1, 2, 6, 12)),
    "groups": (SphereConv2d(2, 4, groups=2), (1, 2, 6, 12)),
    "crown": (CrownConv2d(2, 3, (3, 8), 0.5), (1, 2, 6, 12)),
    "ring": (RingConv2d(2, 3), (1, 2, 6, 12)),
    "maximum": (SphereMaxPool2d(), (1, 2, 6, 12)),
    "copied rim": (CubePad2d(1), (6, 2, 4, 4)),
    "read rim": (CubePad2d(2, "reproject"), (1, 6, 2, 4, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_many_images_at_once_are_one_after_the_other(name):
    layer, shape = LAYERS[name]
    layer = layer.double()
    images = torch.rand(3, *shape, dtype=torch.float64)
    own = {key: p.detach() for key, p in layer.named_parameters()}

    def energy(weights, x):
        return functional_call(layer, weights, (x,)).square().sum()

    by_weight, by_image = vmap(grad(energy, (0, 1)), (None, 0))(own, images)
    for k, x in enumerate(images):
        wanted = grad(energy, (0, 1))(own, x)
        torch.testing.assert_close(by_image[k], wanted[1])
        torch.testing.assert_close({key: g[k] for key, g in by_weight.items()}, wanted[0])
    at = torch.autograd.functional.jacobian(layer, images[0])
    torch.testing.assert_close(jacrev(layer)(images[0]).detach(), at)


def test_a_table_first_asked_for_within_a_transform_serves_outside_of_it():
    layer, rim = SphereConv2d(1, 1), CubePad2d(1, "reproject")
    image, faces = torch.rand(2, 1, 1, 5, 11), torch.rand(2, 6, 1, 5, 5)  # sizes of no other test
    for part, x in ((layer, image), (rim, faces), (lambda v: erp_to_cube(v, 3), image)):
        seen = vmap(grad(lambda v, part=part: part(v).sum()))(x)
        plain = x[0].clone().requires_grad_()
        part(plain).sum().backward()
        torch.testing.assert_close(seen[0], plain.grad)
    made = cube_rim(5, (1, 1, 1, 1), "reproject", torch.device("cpu"))
    reads = layer._tables(5, 11, torch.float32, torch.device("cpu"))[0]
    for tensor in (made.take, made.mixed, *made.sums.forward, *reads.forward):
        assert not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def test_the_usual_path_has_not_the_form_whose_calls_are_slow():
    for function in (sampled._Read, sampled._ReadFirst, rim._Pad, rim._Unpad):
        assert function.setup_context is torch.autograd.Function.setup_context


def test_many_networks_look_at_one_image():
    layer, shape = LAYERS["reads first"]
    layer, x = layer.double(), torch.rand(*shape, dtype=torch.float64)
    weights = {
        key: torch.rand(3, *p.shape, dtype=torch.float64) for key, p in layer.named_parameters()
    }
    found = vmap(lambda w: functional_call(layer, w, (x,)))(weights)
    for k in range(3):
        one = functional_call(layer, {key: w[k] for key, w in weights.items()}, (x,))
        torch.testing.assert_close(found[k], one)
