"""The cube U-Net: one surface, one graph."""

import math

import pytest
import torch
from torch import nn

from sal360.losses import sphere_mse
from sal360.models.checks import DeadParametersError, no_dead_parameters
from sal360.models.cube_unet import CubeUNet, CubeUpsample2d, _doubled, _PublishedPad, face_of
from sal360.nn import CubePad2d, check_equivariance
from sal360.projections import erp_to_cube
from sal360.sphere import pixel_area
from sal360.upstream import CP360_FACES, cube_pad


def pictures(B=1, H=32, W=64, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.rand(B, 3, H, W, generator=source), torch.rand(B, 1, H, W, generator=source)


def small(convention="corrected", seed=0, **settings):
    torch.manual_seed(seed)
    return CubeUNet(base=4, convention=convention, **settings)


def test_published_size():
    """Counted by hand: two 3x3 convolutions and two batch norms a block, and the 1x1 head."""
    widths = [(4, 32), (32, 64), (64, 128), (128, 256), (384, 128), (192, 64), (96, 32)]
    by_hand = sum(9 * o * (i + o) + 4 * o for i, o in widths) + 32 + 1
    assert sum(p.numel() for p in CubeUNet().parameters()) == by_hand == 1_948_577
    assert face_of(480) == 120


@pytest.mark.parametrize("convention", ["corrected", "upstream"])
@pytest.mark.parametrize(("B", "H", "W"), [(2, 33, 70), (1, 31, 62), (1, 8, 16)])
def test_any_size(convention, B, H, W):
    image, motion = pictures(B, H, W)
    maps = small(convention).eval()(image, motion).detach()
    assert maps.shape == (B, 1, H, W)
    assert float(maps.min()) > 0 and float(maps.max()) < 1


def test_a_batch_is_its_frames():
    image, motion = pictures(B=3)
    model = small().eval()
    one_by_one = [model(image[[b]], motion[[b]]) for b in range(3)]
    torch.testing.assert_close(model(image, motion), torch.cat(one_by_one))


@pytest.mark.parametrize("convention", ["corrected", "upstream"])
def test_gradients_reach_every_weight(convention):
    no_dead_parameters(small(convention), *pictures(B=2))


def test_the_published_detach_is_found():
    class Detached(CubeUNet):
        def on_faces(self, faces):
            return super().on_faces(faces).detach()

    model = Detached(base=4)
    with pytest.raises(DeadParametersError, match=r"no gradient reaches .* head\.weight") as found:
        no_dead_parameters(model, *pictures())
    assert found.value.names == [name for name, _ in model.named_parameters()]


def test_one_lost_branch_is_found():
    class SkipsLost(CubeUNet):
        def on_faces(self, faces):
            x, seen = faces.flatten(0, 1), []
            for k, block in enumerate(self.down):
                x = block(self.pool(x) if k else x)
                seen.append(x)
            seen.pop()
            for block in self.up:
                x = block(torch.cat((self.grow(x).detach(), seen.pop()), 1))
            return torch.sigmoid(self.head(x)).unflatten(0, (-1, 6))

    with pytest.raises(DeadParametersError) as found:
        no_dead_parameters(SkipsLost(base=4), *pictures())
    assert found.value.names
    assert all(name.startswith(("down.1", "down.2", "down.3", "up.0", "up.1"))
               for name in found.value.names)  # fmt: skip


def test_conventions_share_their_weights():
    image, motion = pictures()
    corrected, upstream = small().eval(), small("upstream").eval()
    upstream.load_state_dict(corrected.state_dict())
    off = (corrected(image, motion) - upstream(image, motion)).detach().abs()
    assert 0 < float(off.max()) < 0.5


def test_doubling_reads_across_edges():
    """Jump across an edge in units of a step between texels: hardly any, against two or three."""
    across = check_equivariance(CubeUpsample2d(), 1, 64, 128, grid="cube")
    alone = check_equivariance(_doubled, 1, 64, 128, grid="cube")
    assert across.seam < 0.05 and across.pole < 0.4 and across.constant < 1e-12
    assert alone.seam > 2 and alone.pole > 1
    assert across.tilt[0] < 0.6 * alone.tilt[0]


def test_doubling_inside_a_face_is_bilinear():
    x = torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(CubeUpsample2d()(x)[inside], _doubled(x)[inside])


def test_published_padding_differs_in_the_corners_alone():
    faces = torch.randn(2, 6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    published = _PublishedPad()(faces.flatten(0, 1))
    glued = CubePad2d(1)(faces.flatten(0, 1))
    corners = torch.zeros(10, 10, dtype=torch.bool)
    corners[::9, ::9] = True
    assert torch.equal(published[..., ~corners], glued[..., ~corners])
    assert bool((published[..., corners] != glued[..., corners]).all())
    order = ["FRBLUD".index(face) for face in CP360_FACES.replace("T", "U")]
    theirs = cube_pad(faces[:, order].flatten(0, 1), 1).unflatten(0, (2, 6))
    assert torch.equal(published.unflatten(0, (2, 6))[:, order], theirs)


@pytest.mark.parametrize("padding", ["copy", "reproject"])
def test_quarter_turns_are_exact_for_kernels_without_a_direction(padding):
    """Turned by a quarter, faces follow each other; U and D turn, and so would their kernels."""
    model = small(padding=padding).double().eval()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                turns = [layer.weight.rot90(k, (2, 3)) for k in range(4)]
                layer.weight.copy_(3 * torch.stack(turns).mean(0))
        image, motion = (x.double() for x in pictures(H=32, W=64))
        still = model(image, motion)
        turned = model(image.roll(16, -1), motion.roll(16, -1))
    assert float((turned - still.roll(16, -1)).abs().max()) < 1e-9 * float(still.std())


def test_it_learns_where_a_spot_is():
    """Squared error against truth / max, less than half of what the same everywhere leaves.

    The rest is the spot's sharp edge, which faces of 8 texels cannot hold.
    """
    truth = torch.zeros(2, 1, 16, 32)
    truth[0, :, 6:9, 1:4] = truth[1, :, 2:5, 20:23] = 1
    image, motion = truth.expand(-1, 3, -1, -1), torch.zeros_like(truth)
    model = small()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(12):
        optimiser.zero_grad()
        loss = sphere_mse(model(image, motion), truth)
        loss.backward()
        optimiser.step()
    everywhere = (truth * pixel_area(16, 32).float()[:, None]).sum() / (2 * 4 * math.pi)
    assert loss.item() < 0.5 * sphere_mse(everywhere.expand_as(truth), truth).item()


def test_faces_follow_the_panorama_unless_given():
    sizes = []

    class Watched(CubeUNet):
        def on_faces(self, faces):
            sizes.append(faces.shape[-1])
            return super().on_faces(faces)

    image, motion = pictures(H=33, W=70)
    Watched(base=2).eval()(image, motion)
    Watched(base=2, face=40).eval()(image, motion)
    assert sizes == [24, 40]
    assert erp_to_cube(image, 24).shape[-1] == 24


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="face: 20, wanted a multiple of 8"):
        CubeUNet(face=20)
    with pytest.raises(ValueError, match="convention: 'published'"):
        CubeUNet(convention="published")
    with pytest.raises(ValueError, match="padding: 'zeros'"):
        CubeUNet(base=2, padding="zeros")
    with pytest.raises(ValueError, match="base: 0"):
        CubeUNet(base=0)
    image, _ = pictures()
    with pytest.raises(ValueError, match="3 and 3 channels, wanted 3 and 1"):
        CubeUNet(base=2)(image, image)
    with pytest.raises(ValueError, match="faces: 12 texels, wanted a multiple of 8"):
        CubeUNet(base=2).on_faces(torch.zeros(1, 6, 4, 12, 12))
