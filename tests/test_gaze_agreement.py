"""Agreement between people: against loops, against what must hold, and on the real heads."""

import math

import pytest
import torch

from sal360 import gaze, metrics, sphere

H, W = 30, 60


def crowd(spread_deg, observers=8, points=6, seed=0):
    """Observers who all look at one place, each with their own scatter."""
    gen = torch.Generator().manual_seed(seed)
    kappa = 1 / math.radians(spread_deg) ** 2
    at = sphere.lonlat_to_xyz(3.1, 0.5)
    return [
        torch.stack(
            sphere.xyz_to_lonlat(sphere.sample_von_mises_fisher(at, kappa, points, gen)), -1
        )
        for _ in range(observers)
    ]


def density(points):
    return gaze.fixations_to_density(*torch.cat(points).unbind(-1), H, W, 8.0)


def test_leave_one_out_is_the_loop():
    people = crowd(12)
    people[3] = people[3][:2]
    got = gaze.leave_one_out(people, H, W, 8.0)
    for o, own in enumerate(people):
        others = density(people[:o] + people[o + 1 :])
        assert float(got.cc[o]) == pytest.approx(
            float(metrics.cc(others, density([own]))), abs=1e-5
        )
        assert float(got.nss[o]) == pytest.approx(float(metrics.nss(others, own)), abs=1e-5)


def test_halves_are_halves_and_a_seed_repeats_them():
    people = crowd(12, observers=7)
    got = gaze.split_half(people, H, W, 8.0, halves=5, seed=3)
    again = gaze.split_half(people, H, W, 8.0, halves=5, seed=3)
    other = gaze.split_half(people, H, W, 8.0, halves=5, seed=4)
    assert torch.equal(got.cc, again.cc) and not torch.equal(got.cc, other.cc)
    possible = set()
    from itertools import combinations

    for half in combinations(range(7), 3):
        rest = [o for o in range(7) if o not in half]
        maps = density([people[o] for o in half]), density([people[o] for o in rest])
        possible.add(round(float(metrics.cc(*maps)), 5))
    assert {round(float(score), 5) for score in got.cc} <= possible


def test_those_who_agree_more_score_more():
    scores = [gaze.leave_one_out(crowd(spread), H, W, 8.0) for spread in (5, 20, 60)]
    for kind in ("cc", "nss"):
        close, loose, scattered = (float(getattr(s, kind).mean()) for s in scores)
        assert close > loose + 0.1 > scattered + 0.2
    same = [torch.tensor([[0.3, 0.2]])] * 4
    torch.testing.assert_close(gaze.split_half(same, H, W).cc, torch.ones(10).double())


def test_an_observer_without_gaze_has_no_score_and_harms_none():
    people = crowd(12)
    got = gaze.leave_one_out([*people, torch.zeros(0, 2)], H, W, 8.0)
    want = gaze.leave_one_out(people, H, W, 8.0)
    torch.testing.assert_close(got.cc[:-1], want.cc)
    torch.testing.assert_close(got.nss[:-1], want.nss)
    assert got.cc[-1].isnan() and got.nss[-1].isnan()


def test_frame_by_frame():
    people = torch.stack(crowd(10, observers=5, points=4)).double()
    people[2, 1] = torch.nan
    people[1:, 3] = torch.nan
    got = gaze.by_frame(people, H, W, 8.0)
    for t, seen in ((0, [0, 1, 2, 3, 4]), (1, [0, 1, 3, 4])):
        want = gaze.leave_one_out([people[o, t : t + 1] for o in seen], H, W, 8.0)
        assert float(got.cc[t]) == pytest.approx(float(want.cc.mean()))
        assert float(got.nss[t]) == pytest.approx(float(want.nss.mean()))
    assert got.cc.isnan().tolist() == [False, False, False, True]
    with pytest.raises(ValueError, match=r"directions: shape \(1, 4, 2\), wanted \(O, T, 2\)"):
        gaze.by_frame(people[:1], H, W)


def test_other_videos_and_the_equator_are_scored_on_the_same_truth():
    """With two observers a half is one of them, so the loop knows both truths there can be."""
    from sal360.baselines import equator_density

    videos = [crowd(12, 2, 9, seed=s) for s in range(3)]
    videos[2] = [torch.stack((p[:, 0] - 2.5, p[:, 1] - 0.8), -1) for p in videos[2]]
    got = gaze.ceiling(videos, H, W, 8.0, halves=1)
    maps = [density(v) for v in videos]
    band = equator_density(H, W, 20.0)
    for v, (one, two) in enumerate(videos):
        others = torch.stack([m for k, m in enumerate(maps) if k != v]).mean(0)
        possible = []
        for mine, held in ((one, two), (two, one)):
            for pred in (density([mine]), others, band):
                possible.append(float(metrics.cc(pred, density([held]))))
                possible.append(float(metrics.nss(pred, held)))
        found = [
            float(x) for n in ("half", "others", "equator") for x in (got[n].cc[v], got[n].nss[v])
        ]
        assert found in (
            pytest.approx(possible[:6], abs=1e-5),
            pytest.approx(possible[6:], abs=1e-5),
        )
    assert float(got["others"].cc[2]) < 0.1 < float(got["others"].cc[0])
    with pytest.raises(ValueError, match="videos: one without any gaze"):
        gaze.ceiling([videos[0], [torch.zeros(0, 2)] * 2])


# --- bandwidth ---


def likelihood_reference(people, sigma, share):
    """One density of :func:`sal360.sphere.von_mises_fisher` after another."""
    kappa = 1 / math.radians(sigma) ** 2
    scores = []
    for o, own in enumerate(people):
        x = sphere.lonlat_to_xyz(*own.unbind(-1))
        total = 0
        for other in people[:o] + people[o + 1 :]:
            centres = sphere.lonlat_to_xyz(*other.unbind(-1))
            each = [sphere.von_mises_fisher(x, c, kappa) for c in centres]
            total = total + torch.stack(each).mean(0) / (len(people) - 1)
        scores.append(torch.log((1 - share) * total + share / (4 * math.pi)).mean())
    return float(torch.stack(scores).mean())


def test_likelihood_against_the_loop():
    people = crowd(15, observers=4)
    people[1] = people[1][:3]
    sigmas = [0.05, 4, 15, 120]
    got = gaze.best_bandwidth(people, sigmas, uniform_share=0.02)
    want = [likelihood_reference(people, s, 0.02) for s in sigmas]
    assert got.scores.tolist() == pytest.approx(want, abs=1e-9)
    assert got.sigma_deg == sigmas[max(range(4), key=want.__getitem__)]


def test_the_best_width_grows_with_the_scatter_and_shrinks_with_the_crowd():
    widths = [1, 2, 3, 4, 6, 8, 12, 16, 24]
    best = [gaze.best_bandwidth(crowd(s, 12, 10), widths).sigma_deg for s in (3, 8, 20)]
    assert best == sorted(best) and best[0] < best[2]
    few = gaze.best_bandwidth(crowd(12, 4, 3), widths).sigma_deg
    many = gaze.best_bandwidth(crowd(12, 40, 10), widths).sigma_deg
    assert many <= few


def test_a_point_far_from_everyone_is_survived():
    people = [*crowd(5), torch.tensor([[0.0, -1.2]])]
    got = gaze.best_bandwidth(people, [0.5, 2, 5])
    assert bool(got.scores.isfinite().all())


def test_what_is_refused():
    with pytest.raises(ValueError, match="observers: 1, wanted at least 2"):
        gaze.leave_one_out([[[0.0, 0.0]]], H, W)
    with pytest.raises(ValueError, match=r"observers\[1\]: shape \(3,\), wanted \(N, 2\)"):
        gaze.split_half([[[0.0, 0.0]], [1.0, 2.0, 3.0]], H, W)
    with pytest.raises(ValueError, match="candidates"):
        gaze.best_bandwidth(crowd(5), [3, 0])
    with pytest.raises(ValueError, match="videos: 1, wanted at least 2"):
        gaze.ceiling([crowd(5)])
