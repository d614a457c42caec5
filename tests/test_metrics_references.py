"""Every metric against a slow transparent one: loops over pixels and fixations, pairs counted.

Where pysaliency or torchmetrics are installed (they are not needed, and are not dependencies)
their numbers are compared too, at fixations on pixel centres and with pixels counted alike.
What was found with pysaliency 0.2.22 and torchmetrics 1.9.0:

- NSS, CC, SIM, AUC with all pixels as negatives, and shuffled AUC agree with pysaliency to
  rounding. Its NSS reads the pixel a fixation falls in, ours reads between centres, so at
  fixations off the centres they differ. Its ``AUC_Judd`` is another number: it shakes the map,
  leaves fixated pixels out, and takes thresholds at fixations only.
- KLD agrees with its ``image_based_kl_divergence`` without regularisation, and with the
  benchmark's constants where the prediction has no zeros. At zeros theirs is finite, ours inf.
- CC and KLD agree with torchmetrics to rounding in double precision, its AUROC to 1e-6.
"""

import itertools
import math

import numpy as np
import pytest
import torch

from sal360 import metrics
from sal360.metrics import ranks
from sal360.sphere import (
    angle_between,
    erp_directions,
    lonlat_to_xyz,
    rotation_matrix,
    sample_sphere,
    von_mises_fisher,
    xyz_to_lonlat,
)

WEIGHTINGS = ["sphere", "pixels"]


# --- maps and fixations that go wrong ---


def noise(H, W, seed):
    return torch.rand(H, W, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def people(n, seed):
    lon, lat = xyz_to_lonlat(sample_sphere(n, torch.Generator().manual_seed(seed)))
    return torch.stack((lon, lat), -1)


POLES = torch.tensor([[0.0, math.pi / 2], [2.5, math.pi / 2], [-1.0, -math.pi / 2]])
SEAM = torch.tensor([[math.pi, 0.1], [-math.pi, 0.1], [3.14, -0.7], [-3.14, 0.4]])
CASES = {
    "random": (noise(6, 12, 0), people(9, 0)),
    "tied": (torch.floor(3 * noise(6, 12, 1)), people(9, 1)),
    "flat": (torch.full((4, 8), 0.3), people(5, 2)),
    "zeros": (torch.zeros(4, 8), people(5, 2)),
    "one fixation": (noise(5, 8, 3), people(1, 3)),
    "one looked at many times": (noise(5, 8, 3), people(1, 3).repeat(7, 1)),
    "poles": (noise(6, 12, 4), POLES),
    "seam": (noise(6, 12, 5), SEAM),
    "one pixel stands out": (torch.eye(4, 8)[:, :8] * torch.tensor([1.0, 0, 0, 0])[:, None], SEAM),
    "sparse": ((noise(8, 16, 6) - 0.9).clamp(min=0), people(12, 6)),
    "tall and odd": (noise(9, 4, 7), people(6, 7)),
    "one row": (noise(1, 8, 8), people(4, 8)),
}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]


@pytest.fixture(params=WEIGHTINGS)
def weighting(request):
    return request.param


# --- the slow ones ---


def slow_weights(H, W, weighting):
    """A weight for every pixel; they sum to 1."""
    table = []
    for i in range(H):
        top, bottom = (0.5 - i / H) * math.pi, (0.5 - (i + 1) / H) * math.pi
        band = (math.sin(top) - math.sin(bottom)) / 2 if weighting == "sphere" else 1 / H
        table.append([band / W] * W)
    return table


def slow_pixel(lon, lat, H, W):
    lat = min(max(lat, -math.pi / 2), math.pi / 2)  # pi / 2 in single precision lies beyond
    i = min(math.floor((0.5 - lat / math.pi) * H), H - 1)
    return i, math.floor((lon / (2 * math.pi) + 0.5) * W) % W


def slow_shares(values, weighting):
    H, W = values.shape
    weight = slow_weights(H, W, weighting)
    mass = [[float(values[i, j]) * weight[i][j] for j in range(W)] for i in range(H)]
    total = sum(map(sum, mass))
    return [[m / total for m in row] for row in mass] if total else weight


def slow_auc(positives, negatives):
    """Mann and Whitney, pair by pair; negatives are ``(value, weight)``."""
    won = 0.0
    for p in positives:
        for value, w in negatives:
            won += w * (1.0 if p > value else 0.5 if p == value else 0.0)
    return won / (len(positives) * sum(w for _, w in negatives))


def slow_judd(values, looked, weighting, negatives="all"):
    H, W = values.shape
    weight = slow_weights(H, W, weighting)
    pixels = [slow_pixel(float(lon), float(lat), H, W) for lon, lat in looked]
    pool = [
        (float(values[i, j]), weight[i][j])
        for i in range(H)
        for j in range(W)
        if negatives == "all" or (i, j) not in pixels
    ]
    return slow_auc([float(values[p]) for p in pixels], pool)


def slow_read(values, lon, lat):
    """Bilinear between centres: around the seam, and over a pole to half a turn away."""
    H, W = values.shape
    lat = min(max(lat, -math.pi / 2), math.pi / 2)
    row, col = (0.5 - lat / math.pi) * H - 0.5, (lon / (2 * math.pi) + 0.5) * W - 0.5
    total = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(col), math.floor(col) + 1):
            share = (1 - abs(row - i)) * (1 - abs(col - j))
            over = not 0 <= i < H
            total += share * float(values[min(max(i, 0), H - 1), (j + over * (W // 2)) % W])
    return total


def slow_nss(values, looked, weighting):
    H, W = values.shape
    weight = slow_weights(H, W, weighting)
    flat = [(float(values[i, j]), weight[i][j]) for i in range(H) for j in range(W)]
    mean = sum(v * w for v, w in flat)
    variance = sum((v - mean) ** 2 * w for v, w in flat)
    if variance < 1e-24:
        return 0.0
    scores = [(slow_read(values, float(a), float(b)) - mean) / variance**0.5 for a, b in looked]
    return sum(scores) / len(scores)


def slow_cheapest(supply, demand, cost):
    """Exact transport: one cheapest path after another in what the flow so far leaves over."""
    n, m = len(supply), len(demand)
    supply, demand = list(supply), list(demand)
    flow = [[0.0] * m for _ in range(n)]
    while max(supply) > 1e-13:
        far = [0.0 if s > 1e-13 else math.inf for s in supply] + [math.inf] * m
        came = [None] * (n + m)
        changed = True
        while changed:
            changed = False
            for i, j in itertools.product(range(n), range(m)):
                if far[i] + cost[i][j] < far[n + j] - 1e-14:
                    far[n + j], came[n + j], changed = far[i] + cost[i][j], i, True
                if flow[i][j] > 1e-15 and far[n + j] - cost[i][j] < far[i] - 1e-14:
                    far[i], came[i], changed = far[n + j] - cost[i][j], n + j, True
        end = min((j for j in range(m) if demand[j] > 1e-13), key=lambda j: far[n + j])
        path, node = [], n + end
        while came[node] is not None:
            path.append((came[node], node))
            node = came[node]
        back = [flow[b][a - n] for a, b in path if a >= n]
        amount = min([supply[node], demand[end], *back])
        supply[node] -= amount
        demand[end] -= amount
        for a, b in path:
            i, j, sign = (a, b - n, 1) if a < n else (b, a - n, -1)
            flow[i][j] += sign * amount
    return sum(flow[i][j] * cost[i][j] for i in range(n) for j in range(m))


def slow_emd(pred, truth, weighting):
    P, Q = slow_shares(pred, weighting), slow_shares(truth, weighting)
    H, W = pred.shape
    xyz = erp_directions(H, W)
    more = {(i, j): P[i][j] - Q[i][j] for i in range(H) for j in range(W)}
    here = [k for k, v in more.items() if v > 1e-13]
    there = [k for k, v in more.items() if v < -1e-13]
    cost = [[float(angle_between(xyz[a], xyz[b])) for b in there] for a in here]
    return slow_cheapest([more[k] for k in here], [-more[k] for k in there], cost) if here else 0.0


# --- fixations ---


@pytest.mark.parametrize("negatives", ["all", "unfixated"])
def test_auc_judd(case, weighting, negatives):
    values, looked = case
    got = metrics.auc_judd(values, looked, weighting, negatives)
    assert abs(float(got) - slow_judd(values, looked, weighting, negatives)) < 1e-12


def test_auc_borji(case, weighting):
    """The average over draws, and draws that scatter around it as draws of 400 N should."""
    values, looked = case
    wanted = slow_judd(values, looked, weighting)
    assert abs(float(metrics.auc_borji(values, looked, weighting)) - wanted) < 1e-12
    drawn = float(metrics.auc_borji(values, looked, weighting, splits=400, seed=1))
    assert abs(drawn - wanted) < 4 * 0.5 / math.sqrt(400 * len(looked))
    assert drawn == float(metrics.auc_borji(values, looked, weighting, splits=400, seed=1))


def test_sauc(case):
    values, looked = case
    others = torch.cat((people(8, 20), POLES, looked[:1]))
    H, W = values.shape
    read = [[float(values[slow_pixel(float(a), float(b), H, W)]) for a, b in s]
            for s in (looked, others)]  # fmt: skip
    wanted = slow_auc(read[0], [(v, 1.0) for v in read[1]])
    assert abs(float(metrics.sauc(values, looked, others)) - wanted) < 1e-12


def test_nss(case, weighting):
    values, looked = case
    got = float(metrics.nss(values, looked, weighting))
    assert abs(got - slow_nss(values, looked, weighting)) < 1e-6


@pytest.mark.parametrize("eps", [0.0, 0.01])
@pytest.mark.parametrize("based", [False, True])
def test_information_gain(case, weighting, eps, based):
    values, looked = case
    H, W = values.shape
    weight = slow_weights(H, W, weighting)
    base = noise(H, W, 30) + 0.1 if based else torch.ones(H, W)
    P, B = slow_shares(values, weighting), slow_shares(base, weighting)
    if not based:
        B = weight
    bits = []
    for lon, lat in looked.tolist():
        i, j = slow_pixel(lon, lat, H, W)
        p, b = ((1 - eps) * S[i][j] + eps * weight[i][j] for S in (P, B))
        bits.append((math.log2(p) if p > 0 else -math.inf) - math.log2(b))
    wanted = sum(bits) / len(bits)
    got = float(metrics.information_gain(values, looked, base if based else None, weighting, eps))
    assert got == wanted if math.isinf(wanted) else abs(got - wanted) < 1e-12


# --- densities ---


@pytest.mark.parametrize("eps", [0.0, 0.01])
def test_sim_and_kld(case, weighting, eps):
    values, _ = case
    H, W = values.shape
    truth = (noise(H, W, 40) - 0.3).clamp(min=0)
    P, Q = slow_shares(values, weighting), slow_shares(truth, weighting)
    weight = slow_weights(H, W, weighting)
    shared = sum(min(P[i][j], Q[i][j]) for i in range(H) for j in range(W))
    assert abs(float(metrics.sim(values, truth, weighting)) - shared) < 1e-12
    wanted = 0.0
    for i, j in itertools.product(range(H), range(W)):
        p = (1 - eps) * P[i][j] + eps * weight[i][j]
        if Q[i][j] > 0:
            wanted += Q[i][j] * math.log(Q[i][j] / p) if p > 0 else math.inf
    got = float(metrics.kld(values, truth, weighting, eps))
    assert got == wanted if math.isinf(wanted) else abs(got - wanted) < 1e-12


@pytest.mark.parametrize("name", ["random", "tied", "flat", "zeros", "one pixel stands out"])
def test_emd_brackets_the_exact_transport(name, weighting):
    values = CASES[name][0][:4, :6]
    truth = noise(*values.shape, 50)
    exact = slow_emd(values, truth, weighting)
    low, high = metrics.emd_bounds(values, truth, weighting, tolerance=3e-3)
    assert float(low) - 1e-12 <= exact <= float(high) + 1e-12
    assert float(high) - float(low) <= 3e-3 * float(high)
    assert abs(float(metrics.emd(values, truth, weighting)) - exact) <= 0.005 * exact


def test_emd_of_equal_parcels_is_the_best_pairing():
    """Five places of equal mass each: the best of all 120 pairings."""
    H, W = 8, 16
    mass = 1 / torch.tensor(slow_weights(H, W, "sphere"), dtype=torch.float64)
    chosen = torch.randperm(H * W, generator=torch.Generator().manual_seed(0))
    here, there = chosen[:5], chosen[5:10]
    maps = torch.zeros(2, H * W, dtype=torch.float64)
    maps[0, here], maps[1, there] = mass.flatten()[here], mass.flatten()[there]
    xyz = erp_directions(H, W).reshape(-1, 3)
    cost = angle_between(xyz[here][:, None], xyz[there])
    best = min(
        sum(float(cost[i, j]) for i, j in enumerate(order)) / 5
        for order in itertools.permutations(range(5))
    )
    low, high = metrics.emd_bounds(*maps.reshape(2, H, W), tolerance=1e-3)
    assert float(low) - 1e-12 <= best <= float(high) + 1e-12


def test_emd_of_a_blob_that_moves_is_how_far_it_moved():
    """On the equator every parcel moves by the angle times cos(latitude), at most the angle.

    Cells of 10 degrees keep it to 3 %, at steps far below a cell; four times as many to 2 %.
    """
    H = 64
    d = erp_directions(H, 2 * H)
    ahead = lonlat_to_xyz(0.0, 0.0)
    still = von_mises_fisher(d, ahead, 60.0)
    for bands, slack in ((18, 0.03), (36, 0.02)):
        for angle in (0.01, 0.1, 1.0):
            moved = von_mises_fisher(d, rotation_matrix(angle) @ ahead, 60.0)
            assert (1 - slack) * angle < float(metrics.emd(moved, still, bands=bands)) < angle


# --- ranks ---


def test_the_table_of_ranks_is_the_sorted_map():
    """The fast way over a large map, against sorting the map with its weights."""
    H, W = 512, 1024
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(1, 1, 16, 32, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(rough, (H, W), mode="bicubic")[0, 0]
    weight = torch.tensor(slow_weights(H, 1, "sphere"), dtype=torch.float64)[:, 0]
    maps = {
        "noise": torch.rand(H, W, generator=generator, dtype=torch.float64),
        "smooth": smooth,
        "nine levels": torch.floor(9 * smooth),
        "peaked": torch.exp(60 * (smooth - 1)),
        "sparse": (smooth - 0.7).clamp(min=0),
        "far from zero": smooth - 1e6,
        "beyond the table": torch.exp(400 * (smooth - 1)),
        "huge": (smooth - 0.5) * 1.7e308,
        "tiny": (smooth * 1e3).floor() * 5e-324,
        "flat": torch.zeros(H, W, dtype=torch.float64),
    }
    assert H * W > ranks._STEPS, "the map has to be large enough for the table"
    for name, values in maps.items():
        order = values.flatten().sort()
        below = torch.cat((torch.zeros(1), weight[order.indices // W].cumsum(0)))
        for positives in (
            values.flatten()[torch.randint(H * W, (300,), generator=generator)],
            values.flatten()[torch.randint(H * W, (1,), generator=generator)],
            values.max().repeat(5),
            values.min().repeat(5),
        ):
            left = below[torch.searchsorted(order.values, positives)]
            right = below[torch.searchsorted(order.values, positives, right=True)]
            wanted = ((left + right) / 2 / below[-1]).mean()
            got = ranks.auc(values, positives, weight)
            assert abs(float(got - wanted)) < 1e-9, name


# --- other packages, where they are ---


@pytest.fixture
def centred():
    """Maps, and fixations on pixel centres, with some in one pixel: rows, columns, directions."""
    H, W = 12, 24
    generator = torch.Generator().manual_seed(9)
    row = torch.randint(H, (30,), generator=generator)
    col = torch.randint(W, (30,), generator=generator)
    looked = torch.stack(xyz_to_lonlat(erp_directions(H, W)[row, col]), -1)
    maps = {"smooth": noise(H, W, 60) + 0.1, "tied": torch.floor(4 * noise(H, W, 61)) + 1}
    return maps, row.numpy(), col.numpy(), looked


def test_against_pysaliency(centred):
    pytest.importorskip("pysaliency", reason="pysaliency is not installed; it need not be")
    from pysaliency import metrics as theirs
    from pysaliency.numba_utils import auc_for_one_positive, general_rocs_per_positive_numba

    maps, row, col, looked = centred
    truth = noise(12, 24, 62) + 0.05
    for values in maps.values():
        plain = values.numpy()
        nss = theirs.NSS(plain, col, row).mean()
        assert abs(float(metrics.nss(values, looked, "pixels")) - nss) < 1e-9
        area = general_rocs_per_positive_numba(plain[row, col], plain.ravel()).mean()
        assert abs(float(metrics.auc_judd(values, looked, "pixels")) - area) < 1e-12
        others = looked[:11]
        shuffled = np.mean(
            [auc_for_one_positive(p, plain[row[:11], col[:11]]) for p in plain[row, col]]
        )
        assert abs(float(metrics.sauc(values, looked, others)) - shuffled) < 1e-12
        pairs = {
            "cc": theirs.CC(plain, truth.numpy()),
            "sim": theirs.SIM(plain, truth.numpy()),
            "kld": theirs.image_based_kl_divergence(plain, truth.numpy(), minimum_value=0),
        }
        for name, number in pairs.items():
            got = float(getattr(metrics, name)(values, truth, "pixels"))
            assert abs(got - number) < 1e-12, name
        constants = theirs.MIT_KLDiv(plain, truth.numpy())
        assert abs(float(metrics.kld(values, truth, "pixels")) - constants) < 1e-10  # no zeros here


def test_against_torchmetrics(centred):
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed; it need not be")
    from torchmetrics.functional import kl_divergence, pearson_corrcoef
    from torchmetrics.functional.classification import binary_auroc

    maps, row, col, looked = centred
    truth = noise(12, 24, 62) + 0.05
    for values in maps.values():
        cc = pearson_corrcoef(values.flatten(), truth.flatten())
        assert abs(float(metrics.cc(values, truth, "pixels") - cc)) < 1e-12
        kld = kl_divergence(truth.flatten()[None], values.flatten()[None])
        assert abs(float(metrics.kld(values, truth, "pixels") - kld)) < 1e-9
        scores = torch.cat((values[row, col], values.flatten())) / 10  # it takes probabilities
        label = torch.cat((torch.ones(len(row)), torch.zeros(values.numel()))).int()
        area = binary_auroc(scores, label)
        assert abs(float(metrics.auc_judd(values, looked, "pixels") - area)) < 1e-6
