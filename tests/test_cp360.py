"""CP-360: its backbone, its memory, its maps, and training without gaze."""

import hashlib
import math
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sal360 import upstream
from sal360.datasets.download import DownloadError
from sal360.datasets.resume import ResumingDownloader
from sal360.models import resnet
from sal360.models.checks import no_dead_parameters
from sal360.models.cost import WithoutValues
from sal360.models.cp360 import CP360, evidence, relative_density
from sal360.models.cp360_memory import REMEMBERED, CubeConvLSTM
from sal360.models.cp360_pretraining import KINDS, agreement, named_pictures, present, pretrain
from sal360.models.cp360_weak import weak_losses, weak_optimiser, weak_step
from sal360.models.resnet import Bottleneck, ResNet, load_by_name, read_imagenet, resnet50
from sal360.projections import cube_to_erp, erp_to_cube
from sal360.sphere import pixel_area

KEYS = Path(__file__).parent / "golden" / "cubepad_resnet50_keys.txt"
TINY = {"width": 4, "face": 32}
conventions = pytest.mark.parametrize("convention", ["corrected", "upstream"])


def tiny(convention="corrected", seed=0, **settings):
    torch.manual_seed(seed)
    return CP360(convention=convention, **{**TINY, **settings}).eval()


def clip_of(T=3, B=1, H=64, W=128, seed=0):
    """Smooth noise that drifts: neighbouring frames are alike."""
    dice = torch.Generator().manual_seed(seed)
    noise = torch.rand(B, 3, H // 8, W // 8, generator=dice)
    still = nn.functional.interpolate(noise, (H, W), mode="bilinear", align_corners=False)
    return torch.stack([still.roll(2 * t, -1) for t in range(T)], 1)


# The backbone.


def test_resnet50_has_the_published_names_and_shapes():
    with WithoutValues():
        plain, both = resnet50(), [CP360.published(c) for c in ("corrected", "upstream")]
    wanted = sorted(KEYS.read_text().splitlines())
    for network in (plain, *(model.backbone for model in both)):
        found = [f"{key} {tuple(v.shape)}" for key, v in network.state_dict().items()]
        assert sorted(found) == wanted and len(found) == 320
    for model in both:
        assert sum(p.numel() for p in model.memory.parameters()) == 360_012_000
        assert sum(p.numel() for p in model.parameters()) == 385_569_032


def test_a_bottleneck_with_published_padding_is_theirs(golden):
    s = {key: torch.from_numpy(value) for key, value in golden("resnet_cubepad").items()}
    from sal360.models.cp360 import _published_padding

    block = Bottleneck(16, 4, 2)
    load_by_name(block, {k[8:]: v for k, v in s.items() if k.startswith("bneck.w.")})
    y = _published_padding(block.eval())(s["bneck.x"])
    assert torch.allclose(y, s["bneck.y"], atol=1e-5)


def test_the_stem_with_published_padding_is_theirs(golden):
    s = {key: torch.from_numpy(value) for key, value in golden("resnet_cubepad").items()}
    model = CP360(8, (1, 1, 1, 1), convention="upstream").eval().backbone
    load_by_name(model.conv1, {"weight": s["stem.conv1.weight"]})
    load_by_name(model.bn1, {k[9:]: v for k, v in s.items() if k.startswith("stem.bn1.")})
    x = model.bn1(model.conv1(s["stem.x"])).relu()
    assert torch.allclose(x, s["stem.after_relu"], atol=1e-5)
    assert torch.allclose(model.maxpool(x), s["stem.after_maxpool"], atol=1e-5)


def test_weights_load_by_name(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(1)
    source = ResNet((1, 1, 1, 1), 4, 5).state_dict()
    old = {k: v for k, v in source.items() if not k.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "w.pth")
    save_file(source, tmp_path / "w.safetensors")
    for convention in ("corrected", "upstream"):
        for name in ("w.pth", "w.safetensors"):
            model = tiny(convention)
            model.load_backbone(tmp_path / name)
            assert torch.equal(model.backbone.fc.weight, source["fc.weight"])
            deep = model.backbone.state_dict()["layer3.0.conv2.weight"]
            assert torch.equal(deep, source["layer3.0.conv2.weight"])


def test_weights_that_do_not_fit_are_named_and_change_nothing():
    network = ResNet((1, 1, 1, 1), 4, 5)
    before = network.conv1.weight.clone()
    given = {k: v + 1 for k, v in network.state_dict().items()}
    given["head.weight"] = given.pop("fc.weight")
    given["fc.bias"] = torch.zeros(3)
    message = r"1 missing: fc.weight; 1 unknown: head.weight; 1 of another shape: fc.bias \(3,\)"
    with pytest.raises(ValueError, match=message):
        load_by_name(network, given)
    assert torch.equal(network.conv1.weight, before)


def test_a_name_that_promises_a_hash_is_held_to_it(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "plain.pth")
    raw = (tmp_path / "plain.pth").read_bytes()
    right = tmp_path / f"net-{hashlib.sha256(raw).hexdigest()[:8]}.pth"
    wrong = tmp_path / "net-0676ba61.pth"
    for path in (right, wrong):
        path.write_bytes(raw)
    assert torch.equal(read_imagenet(right)["a"], torch.ones(2))
    with pytest.raises(ValueError, match=r"net-0676ba61.pth: sha256 .* wanted 0676ba61"):
        read_imagenet(wrong)
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="old.pth: torch's format of before 2020"):
        read_imagenet(tmp_path / "old.pth")
    with pytest.raises(FileNotFoundError, match="none.pth"):
        read_imagenet(tmp_path / "none.pth")


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    """A small file in the place of torchvision's, and a torchvision that knows an address."""
    source, cache = tmp_path / "source.pth", tmp_path / "cache"
    torch.save(CP360(width=4, classes=3).backbone.state_dict(), source)
    monkeypatch.setenv("SAL360_CACHE", str(cache))
    monkeypatch.setattr(resnet, "IMAGENET_SHA256", hashlib.sha256(source.read_bytes()).hexdigest())
    # The name carries the first digits of the real file's hash, which are checked when it is read.
    name = f"weights/resnet50-{resnet.IMAGENET_SHA256[:8]}.pth"
    monkeypatch.setattr(resnet, "IMAGENET", name)
    models = types.ModuleType("torchvision.models")
    models.ResNet50_Weights = SimpleNamespace(
        IMAGENET1K_V1=SimpleNamespace(url="http://127.0.0.1:9")
    )
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return source, cache / name


def test_imagenet_is_fetched_by_its_hash(pretended, monkeypatch):
    source, kept = pretended

    def served(self, url, output_file, pooch=None):
        assert url == "http://127.0.0.1:9"
        self.resumed = False
        Path(output_file).write_bytes(source.read_bytes())

    monkeypatch.setenv("SAL360_OFFLINE", "0")
    monkeypatch.setattr(ResumingDownloader, "__call__", served)
    model, other = CP360(width=4, classes=3), CP360(width=4, classes=3)
    for network in (model, other):  # the second time it lies in the cache
        network.load_backbone("imagenet")
        monkeypatch.setattr(ResumingDownloader, "__call__", None)
    assert kept.is_file()
    assert torch.equal(model.backbone.conv1.weight, torch.load(source)["conv1.weight"])
    assert torch.equal(other.backbone.fc.weight, model.backbone.fc.weight)


def test_imagenet_that_is_not_to_be_had_is_one_line(pretended, monkeypatch):
    source, kept = pretended
    monkeypatch.setenv("SAL360_OFFLINE", "1")
    model = CP360(width=4, classes=3)
    with pytest.raises(DownloadError, match="SAL360_OFFLINE=1 forbids"):
        model.load_backbone("imagenet")
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as if it were not installed
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(DownloadError, match=r"by hand will do") as caught:
        model.load_backbone("imagenet")
    assert "\n" not in str(caught.value)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(source.read_bytes())
    model.load_backbone("imagenet")  # by hand it does
    kept.write_bytes(b"something else")
    with pytest.raises(DownloadError):
        model.load_backbone("imagenet")


# The memory.


def test_the_published_memory_is_theirs(golden):
    z = {key: torch.from_numpy(value) for key, value in golden("clstm_losses").items()}
    memory = CubeConvLSTM(8, 8, "upstream")
    load_by_name(memory, {key[2:]: value for key, value in z.items() if key.startswith("w.")})
    state = None
    for k, frame in enumerate(upstream.unit_sequence(z["seq"][None])[0]):
        state = memory(frame, state)
        assert (state.hidden - z["h"][k]).abs().max() < 2e-6
        assert (state.cell - z["c"][k]).abs().max() < 2e-6


def test_the_whole_published_path_is_theirs(golden):
    """From scores to maps to losses, as the model itself goes."""
    z = {key: torch.from_numpy(value) for key, value in golden("clstm_losses").items()}
    model = CP360(4, classes=8, face=32, convention="upstream").eval()
    load_by_name(model.memory, {key[2:]: value for key, value in z.items() if key[:2] == "w."})
    frames = [model.panorama(part.flatten(0, 1), (14, 28)) for part in
              model.remembered(z["seq"][None])]  # fmt: skip
    maps = torch.stack(frames, 1)[:, 1:]
    assert (maps[0, :, 0] - z["loss.equi_maps"]).abs().max() < 1e-5


def test_an_untrained_memory_is_a_running_mean():
    torch.manual_seed(0)
    memory = CubeConvLSTM(4, 4)
    before, after = torch.rand(2, 6, 4, 5, 5)
    memory.requires_grad_(False)
    state = memory(before)
    for _ in range(30):
        state = memory(before, state)
    correlation = torch.corrcoef(torch.stack((state.hidden.flatten(), before.flatten())))[0, 1]
    assert correlation > 0.95
    course = [state.hidden]
    for _ in range(40):
        state = memory(after, state)
        course.append(state.hidden)
    whole = (course[-1] - course[0]).flatten()
    left = [float((course[-1] - h).flatten() @ whole / (whole @ whole)) for h in course[1:4]]
    assert left == pytest.approx([REMEMBERED, REMEMBERED**2, REMEMBERED**3], abs=0.08)


def test_a_memory_of_another_width_starts_from_nothing():
    memory = CubeConvLSTM(3, 5)
    state = memory(torch.rand(6, 3, 4, 4))
    assert state.hidden.shape == (6, 5, 4, 4)
    assert not memory.first(torch.rand(6, 3, 4, 4)).cell.any()


# The model.


@conventions
@pytest.mark.parametrize("temporal", [True, False])
@pytest.mark.parametrize("size", [(64, 128), (33, 65), (17, 31)])
def test_any_size_of_clip(convention, temporal, size):
    model = tiny(convention, temporal=temporal)
    for B, T in ((1, 1), (2, 2)):
        clip = torch.rand(B, T, 3, *size)
        with torch.no_grad():
            maps = model(clip)
            assert maps.shape == (B, T, 1, *size) and bool(maps.isfinite().all())
            alone = model(clip[-1:])
        assert torch.allclose(maps[-1:], alone, atol=1e-5)
        if convention == "corrected":
            mean = (maps * pixel_area(*size).to(maps)[:, None]).sum((-2, -1)) / (4 * math.pi)
            assert torch.allclose(mean, torch.ones_like(mean), atol=1e-5)
            assert maps.min() >= 0.0199


@torch.no_grad()
def test_steps_are_the_clip():
    clip = clip_of(4)
    model, state = tiny(), None
    whole = model(clip)
    for t in range(4):
        one, state = model.step(clip[:, t], state)
        assert torch.allclose(one, whole[:, t], atol=1e-5)
    assert (whole[:, 3] - model(clip[:, 3:])[:, 0]).abs().max() > 0.01, "nothing is remembered"
    static = tiny(temporal=False)
    assert torch.allclose(static(clip)[:, 2], static.static(clip[:, 2]), atol=1e-5)


@torch.no_grad()
def test_only_the_published_clip_looks_ahead():
    clip = clip_of(3)
    other = clip.clone()
    other[:, 2] = other[:, 2].square()
    for convention, equal in (("corrected", True), ("upstream", False)):
        model = tiny(convention)
        assert torch.allclose(model(clip)[:, 0], model(other)[:, 0], atol=1e-6) == equal


@torch.no_grad()
def test_the_published_window_gives_its_last_map():
    """Five frames and four to warm up: every window tells the map of one frame."""
    model = tiny("upstream")
    assert (model.length, model.warm_up, model.stateful) == (5, 4, False)
    assert tiny().stateful


@conventions
def test_weights_go_from_one_convention_to_the_other(convention):
    source, target = tiny(convention, seed=1), tiny(seed=2)
    target.load_state_dict(source.state_dict())
    rebuilt = CP360(**source.settings)
    assert rebuilt.convention == convention
    assert rebuilt.state_dict().keys() == source.state_dict().keys()
    rebuilt.load_state_dict(source.state_dict())


def test_a_gradient_reaches_every_parameter():
    clip = clip_of(2)
    no_dead_parameters(tiny().train(), clip)
    published = tiny("upstream").train()
    no_dead_parameters(published, clip)
    assert not any(p.requires_grad for p in published.backbone.parameters())
    assert not published.backbone.training


@torch.no_grad()
@conventions
def test_bfloat16_changes_little(convention):
    model, clip = tiny(convention), clip_of(2)
    exact = model(clip)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(clip)
    centred = exact - exact.mean()
    assert (rough.float() - exact).norm() / centred.norm() < 0.1


@torch.no_grad()
def test_a_quarter_turn_turns_the_cube_into_itself():
    """Exactly, as far as no kernel sees the upper or the lower face, which stands turned."""
    image = clip_of(1, H=256, W=512)[:, 0].double()
    turned = image.roll(128, -1)
    faces, moved = erp_to_cube(image, 128), erp_to_cube(turned, 128)
    assert torch.allclose(moved[:, :4], faces[:, [3, 0, 1, 2]], atol=1e-12)
    for k, way in ((4, 1), (5, -1)):
        assert torch.allclose(moved[:, k], faces[:, k].rot90(way, (-2, -1)), atol=1e-12)
    model = tiny(face=128).double()
    still, now = model.scores(image), model.scores(turned)
    off = (now[:4] - still[[3, 0, 1, 2]]).abs().amax((0, 1, 3))
    reach = 30  # texels that a place of the last layer sees on either side
    level = slice(reach // 8 + 1, -(reach // 8 + 1))
    assert off[level].max() < 1e-9 < 1e-3 < off[[0, -1]].min()
    # An eighth of a turn moves what is seen between the faces: nothing is exact.
    eighth = cube_to_erp(model.scores(image.roll(64, -1)).unflatten(0, (1, 6)), 128)
    before = cube_to_erp(still.unflatten(0, (1, 6)), 128)
    assert (eighth - before.roll(32, -1))[..., 60:68, :].abs().max() > 1e-3


def test_features_are_rgb_or_as_published():
    frames = np.zeros((2, 40, 80, 3), np.uint8)
    frames[..., 0] = 255
    (ours, _), (theirs, _) = (list(tiny(c).features(frames)) for c in ("corrected", "upstream"))
    assert ours.shape == theirs.shape == (3, 64, 128)
    assert ours[:, 0, 0].tolist() == [1, 0, 0] and theirs[:, 0, 0].tolist() == [0, 0, 1]


def test_evidence_is_of_one_frame():
    scores = torch.randn(2, 3, 6, 4, 2, 2)
    unit = evidence(scores)
    assert torch.allclose(unit[1, 2], evidence(scores[1, 2]))
    assert torch.allclose(unit, evidence(7 * scores - 2), atol=1e-5)
    best = unit.amax(3)
    assert torch.allclose(best.amax((2, 3, 4)), torch.ones(2, 3)) and not best.amin((2, 3, 4)).any()
    assert not evidence(torch.ones(6, 4, 2, 2)).any()


def test_relative_density_of_flat_and_of_shifted_maps():
    assert torch.allclose(relative_density(torch.full((1, 1, 8, 16), 7.0)), torch.ones(()))
    raw = torch.rand(1, 1, 8, 16, dtype=torch.float64)
    assert torch.allclose(relative_density(raw), relative_density(5 * raw - 3))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: CP360(convention="ours"), "convention: 'ours', wanted"),
        (lambda: CP360(blocks=(1, 1)), "blocks: .*wanted four"),
        (lambda: CP360(classes=0), "classes: 0, wanted at least 1"),
        (lambda: tiny()(torch.zeros(1, 3, 8, 16)), "clip: shape"),
        (lambda: tiny().static(torch.zeros(1, 4, 8, 16)), "image: shape"),
        (lambda: tiny(temporal=False).load_memory("x"), "memory: there is none"),
        (lambda: weak_losses(tiny(temporal=False), clip_of(2), None), "model: has no memory"),
        (lambda: weak_losses(tiny(), clip_of(1), None), "clip: shape .*T at least 2"),
        (lambda: pretrain(tiny(classes=3)), "model: 3 classes, wanted 5"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


# Training.


@conventions
def test_weak_steps_teach_the_memory_alone(convention):
    model = tiny(convention)
    clip = clip_of(5)
    flow = torch.zeros(1, 4, 2, 64, 128)
    flow[:, :, 0] = 2
    frozen = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    before = {k: v.clone() for k, v in model.memory.state_dict().items()}
    rate = {"corrected": 1e-3, "upstream": 1e-6}[convention]
    assert weak_optimiser(model).defaults["lr"] == rate
    optimiser = torch.optim.SGD(model.memory.parameters(), rate)
    totals = [float(weak_step(model, optimiser, clip, flow).total) for _ in range(3)]
    assert totals[2] < totals[1] < totals[0]
    after = model.backbone.state_dict()
    assert all(torch.equal(after[k], v) for k, v in frozen.items())
    assert all(not torch.equal(v, before[k]) for k, v in model.memory.state_dict().items())


def test_published_weak_losses_are_those_of_its_last_four_maps():
    model = tiny("upstream")
    clip, flow = clip_of(5), torch.rand(1, 4, 2, 16, 32)
    got = weak_losses(model, clip, flow)
    with torch.no_grad():
        scores = model.scores(clip[0]).unflatten(0, (1, 5, 6))
        s = scores.shape[-1]
        frames = [model.panorama(p.flatten(0, 1), (2 * s, 4 * s)) for p in model.remembered(scores)]
    wanted = upstream.temporal_losses(torch.stack(frames, 1)[:, 1:], flow[:, 1:])
    assert torch.allclose(got.total, wanted.total()) and float(got.anchor) == 0


def test_an_empty_map_pleases_the_published_losses_and_the_anchor_forbids_it():
    clip, flow = clip_of(5), torch.zeros(1, 4, 2, 16, 32)
    for convention, improves in (("upstream", True), ("corrected", False)):
        model = tiny(convention)
        start = float(weak_losses(model, clip, flow).total.detach())
        with torch.no_grad():  # a closed output gate: the same faint number everywhere
            n = model.memory.hidden
            model.memory.Gates.weight[2 * n : 3 * n] = 0
            model.memory.Gates.bias[2 * n : 3 * n] = -12
            if convention == "corrected":
                model.memory.Gates.weight[3 * n :] = 0
        empty = weak_losses(model, clip, flow)
        assert (float(empty.total.detach()) < 0.01 * start) == improves


def test_kinds_on_faces():
    kinds = torch.zeros(1, 32, 64, dtype=torch.long)
    kinds[:, 14:18, 30:34] = 3  # straight ahead
    kinds[:, :2] = 1  # overhead
    on = present(kinds, 16, 4)
    assert on.shape == (6, len(KINDS), 4, 4)
    assert [v.tolist() for v in on.sum((-2, -1)).nonzero(as_tuple=True)] == [[0, 4], [2, 0]]
    assert torch.allclose(on[0, 2], on[0, 2].flip(-1)) and on[0, 2, 1:3, 1:3].min() > 0
    assert on.max() <= 1


def test_pictures_are_named_by_what_is_in_them():
    pictures = named_pictures(3, (16, 32), seed=1)
    assert pictures.frames.shape == (3, 3, 16, 32) and len(pictures) == 3
    assert pictures.kinds.min() == 0 and 0 < pictures.kinds.max() <= len(KINDS)
    again = named_pictures(2, (16, 32), seed=1)
    assert torch.equal(again.kinds, pictures.kinds[:2])


def test_agreement_is_between_class_activation_and_viewers():
    found = agreement(tiny(temporal=False), worlds=2)
    assert list(found) == ["static", "equator", "both"]
    assert 0.1 < found["equator"] < 0.5 and all(-1 <= value <= 1 for value in found.values())


def test_pretraining_lowers_its_loss_and_leaves_the_memory():
    model = tiny()
    memory = {k: v.clone() for k, v in model.memory.state_dict().items()}
    losses = pretrain(model, worlds=6, steps=12, batch=2, lr=5e-3)
    assert len(losses) == 12 and np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    assert all(torch.equal(v, memory[k]) for k, v in model.memory.state_dict().items())
    assert not model.training
    other = tiny()
    assert pretrain(other, worlds=6, steps=2, batch=2, lr=5e-3)[0] == losses[0]


def test_a_twin_that_pads_with_zeros_is_the_same_but_at_the_edges_of_faces():
    """Same keys, shapes and values; away from the edges of faces the same answer."""
    torch.manual_seed(0)
    glued, flat = (CP360(width=4, face=64, strides=(1, 1, 1, 1), padding=p).eval()
                   for p in ("cube", "zeros"))  # fmt: skip
    flat.load_state_dict(glued.state_dict())
    assert glued.settings | {"padding": "zeros"} == flat.settings
    image = torch.rand(1, 3, 64, 128)
    with torch.no_grad():
        ours, theirs = glued.scores(image), flat.scores(image)
        state = glued.memory(evidence(ours))
        flat_state = flat.memory(evidence(ours))
    assert (ours - theirs)[..., 6:10, 6:10].abs().max() < 1e-5 < (ours - theirs).abs().max()
    inside = (slice(None), slice(None), slice(3, -3), slice(3, -3))
    assert torch.allclose(state.hidden[inside], flat_state.hidden[inside], atol=1e-6)
    assert not torch.allclose(state.hidden, flat_state.hidden, atol=1e-3)
    with pytest.raises(ValueError, match="^padding: 'ones'"):
        CP360(padding="ones")
    with pytest.raises(ValueError, match="wanted convention='corrected' with it"):
        CP360(padding="zeros", convention="upstream")
