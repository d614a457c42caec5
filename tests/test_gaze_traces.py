"""Traces: fixations found again at any rate, across seam and pole; windows; interpolation."""

import math

import numpy as np
import pytest
import torch

from sal360 import gaze, sphere
from sal360.gaze import fixations as fx

MOVE_S = 0.05
PLACES = [(10.0, 0), (28, 5), (177, 12), (-170, 20), (140, 86), (-20, 85), (-60, -40), (-61, -75)]
"""Degrees: the third move crosses the seam, and two fixations lie around the north pole."""


def made_trace(rate, seed=0, noise_deg=0.1, uneven=0.0, turn=None, stay=0.3, move=MOVE_S):
    """A trace with known fixations: stays, and moves of constant speed between them."""
    rng = np.random.default_rng(seed)
    gen = torch.Generator().manual_seed(seed)
    points = torch.deg2rad(torch.tensor(PLACES, dtype=torch.float64))
    d = sphere.lonlat_to_xyz(points[:, 0], points[:, 1])
    if turn is not None:
        d = d @ turn.T
    onset = torch.arange(len(d), dtype=torch.float64) * (stay + move)
    time = np.arange(0, float(onset[-1]) + stay, 1 / rate)
    time = torch.as_tensor(time + uneven / rate * rng.uniform(-0.4, 0.4, len(time)))
    at = torch.searchsorted(onset, time, right=True).clamp(min=1) - 1
    share = ((time - onset[at] - stay) / move).clamp(0, 1)
    clean = sphere.slerp(d[at], d[(at + 1).clamp(max=len(d) - 1)], share)
    noise = torch.randn(clean.shape, generator=gen, dtype=torch.float64) * math.radians(noise_deg)
    lon, lat = sphere.xyz_to_lonlat(clean + noise)
    return time, lon, lat, onset, d


TURN = sphere.rotation_matrix(2.9, 1.2, -0.4)


@pytest.mark.parametrize("turn", [None, TURN], ids=["as made", "turned"])
@pytest.mark.parametrize(
    ("detect", "rate", "uneven"),
    [
        (detect, rate, uneven)
        for rate, uneven in [(60, 0), (60, 1), (90, 0.5), (120, 1), (250, 0), (1000, 0.5)]
        for detect in (gaze.by_velocity, gaze.by_dispersion)
        if rate <= 120 or detect is gaze.by_velocity  # see the docstring of by_dispersion
    ],
)
def test_known_fixations_are_found(detect, rate, uneven, turn):
    time, lon, lat, onset, d = made_trace(rate, uneven=uneven, turn=turn)
    found = detect(time, lon, lat)
    assert len(found.onset) == len(d)
    # A stay's edges lie between two samples, and speeds are taken over a span.
    slack = 2.5 / rate + fx.SPAN_S
    torch.testing.assert_close(found.onset, onset, atol=slack, rtol=0)
    torch.testing.assert_close(found.duration, torch.full_like(onset, 0.3), atol=slack, rtol=0)
    off = sphere.angle_between(sphere.lonlat_to_xyz(found.lon, found.lat), d)
    assert math.degrees(off.max()) < 0.25
    torch.testing.assert_close(found.end, found.onset + found.duration)
    assert found.points.shape == (len(d), 2)


@pytest.mark.parametrize(
    ("detect", "settings"),
    [(gaze.by_velocity, fx.HEAD_VELOCITY), (gaze.by_dispersion, fx.HEAD_DISPERSION)],
)
def test_heads_at_ten_hertz_in_whole_degrees(detect, settings):
    """The stays of 1.2 s away from the poles, where whole degrees are no steps."""
    time, lon, lat, onset, d = made_trace(10, noise_deg=0.3, stay=1.2, move=0.4)
    lon, lat = (torch.deg2rad(torch.rad2deg(a).round()) for a in (lon, lat))
    found = detect(time, lon, lat, **settings)
    calm = [0, 1, 2, 3, 6, 7]
    directions = sphere.lonlat_to_xyz(found.lon, found.lat)
    for k in calm:
        hit = (sphere.angle_between(directions, d[k]) < math.radians(1)).nonzero()[:, 0]
        assert len(hit) == 1
        torch.testing.assert_close(found.onset[hit[0]], onset[k], atol=0.2, rtol=0)


@pytest.mark.parametrize("detect", [gaze.by_velocity, gaze.by_dispersion])
def test_a_turned_trace_has_turned_fixations(detect):
    """Nothing depends on where the seam and the poles are."""
    time, lon, lat, *_ = made_trace(90)
    here = detect(time, lon, lat)
    there = detect(time, *sphere.xyz_to_lonlat(sphere.lonlat_to_xyz(lon, lat) @ TURN.T))
    assert torch.equal(here.samples, there.samples) and torch.equal(here.onset, there.onset)
    torch.testing.assert_close(
        sphere.lonlat_to_xyz(here.lon, here.lat) @ TURN.T,
        sphere.lonlat_to_xyz(there.lon, there.lat),
    )


def test_the_mean_is_one_of_directions():
    lon = torch.deg2rad(torch.tensor([179.6, -179.6, 179.8, -179.8] * 10, dtype=torch.float64))
    found = gaze.by_dispersion(torch.arange(40) / 100, lon, torch.zeros(40))
    assert len(found.lon) == 1
    assert abs(abs(math.degrees(found.lon[0])) - 180) < 1e-9
    around = torch.arange(60, dtype=torch.float64) * 0.7
    found = gaze.by_velocity(torch.arange(60) / 120, around, torch.full((60,), 1.5705))
    assert len(found.lat) == 1 and found.lat[0] > 1.5705


@pytest.mark.parametrize("detect", [gaze.by_velocity, gaze.by_dispersion])
def test_a_blink_ends_a_fixation_and_a_lost_sample_does_not(detect):
    time = torch.arange(120, dtype=torch.float64) / 60
    lon, lat = torch.zeros(120), torch.zeros(120)
    lon[30] = torch.nan
    lat[60:72] = torch.nan
    found = detect(time, lon, lat)
    assert found.samples.tolist() == [59, 48]
    torch.testing.assert_close(found.end[0], time[59])
    torch.testing.assert_close(found.onset[1], time[72])
    assert detect(time, lon, lat, max_gap_s=1.0).samples.tolist() == [107]
    assert detect(time, lon, lat, max_gap_s=1 / 60).samples.tolist() == [30, 29, 48]


@pytest.mark.parametrize("detect", [gaze.by_velocity, gaze.by_dispersion])
def test_equal_stamps_count_once_and_the_last_holds(detect):
    time = torch.tensor([0.0, 0.0, 0.0, 0.1, 0.2, 0.3], dtype=torch.float64)
    lon = torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    found = detect(time, lon, torch.zeros(6))
    assert found.samples.tolist() == [4] and found.onset.tolist() == [0]


@pytest.mark.parametrize("detect", [gaze.by_velocity, gaze.by_dispersion])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_short_traces(detect, count):
    found = detect(torch.arange(count) / 60, torch.zeros(count), torch.zeros(count))
    assert all(len(column) == 0 for column in found)
    lost = torch.full((9,), torch.nan)
    assert len(detect(torch.arange(9) / 60, lost, lost).onset) == 0
    assert len(detect(torch.arange(count) / 60, *torch.zeros(2, count), min_duration_s=0).lon) == (
        1 if count == 2 else 0
    )


def dispersion_reference(time, d, threshold, least):
    """I-DT by the book, one window at a time."""
    found, start = [], 0
    while start < len(time):
        end = start
        while end + 1 < len(time) and all(
            float(sphere.angle_between(d[end + 1], d[k])) <= threshold
            for k in range(start, end + 1)
        ):
            end += 1
        if end > start and time[end] - time[start] >= least - 1e-9:
            found.append((start, end))
            start = end + 1
        else:
            start += 1
    return found


@pytest.mark.parametrize("seed", range(4))
def test_dispersion_is_the_algorithm_by_the_book(seed):
    gen = torch.Generator().manual_seed(seed)
    walk = torch.randn(120, 3, generator=gen, dtype=torch.float64).cumsum(0) * 0.02
    d = torch.nn.functional.normalize(walk + torch.tensor([0.3, -1.0, 0.2]), dim=-1)
    time = torch.arange(120, dtype=torch.float64) / 60
    want = dispersion_reference(time.tolist(), d, math.radians(9), 0.05)
    found = gaze.by_dispersion(time, *sphere.xyz_to_lonlat(d), threshold_deg=9, min_duration_s=0.05)
    assert len(want) > 3
    assert found.onset.tolist() == [float(time[a]) for a, _ in want]
    assert found.samples.tolist() == [b - a + 1 for a, b in want]


def test_bad_traces_are_refused():
    good = torch.arange(5.0)
    with pytest.raises(ValueError, match="time: falls"):
        gaze.by_velocity(-good, good, good)
    with pytest.raises(ValueError, match=r"shapes \(5,\), \(4,\), \(5,\)"):
        gaze.by_dispersion(good, good[:4], good)
    with pytest.raises(ValueError, match="threshold_deg_s: 0, wanted above 0"):
        gaze.by_velocity(good, good, good, threshold_deg_s=0)


# --- windows ---


def members_reference(onset, end, frames, fps, width, causal):
    """Exact, with fractions: no rounding at the edges of windows."""
    from fractions import Fraction as Q

    out = []
    for t in range(frames):
        stop = Q(t + 1) / fps if causal else Q(2 * t + 1) / (2 * fps) + width / 2
        out.append([k for k, (a, b) in enumerate(zip(onset, end, strict=True))
                    if a < stop and b >= stop - width])  # fmt: skip
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("span", [0, 7])
def test_windows_against_exact_arithmetic(causal, span):
    from fractions import Fraction as Q

    onset = [Q(k * 37 % 100, 60) for k in range(100)]  # many on the very edge of a window
    end = [a + Q(span * (k % 3), 60) for k, a in enumerate(onset)]
    for fps, width in ((Q(30), Q(1, 30)), (Q(30), Q(1, 10)), (Q(10), Q(1, 20)), (Q(8), Q(2))):
        want = members_reference(onset, end, 12, fps, width, causal)
        got = gaze.in_windows(
            [float(a) for a in onset], 12, float(fps), float(width),
            end=[float(b) for b in end], causal=causal,
        )  # fmt: skip
        assert [g.tolist() for g in got] == want


def test_samples_are_shared_out_once_by_default():
    time = torch.rand(3, 200, generator=torch.Generator().manual_seed(0)).double() * 5
    time[1, 7] = torch.nan
    windows = gaze.in_windows(time, 150, 30)
    together = torch.cat(windows)
    assert len(together) == 599 and len(together.unique()) == 599
    for t, members in enumerate(windows):
        inside = time.flatten()[members]
        assert bool(((inside >= t / 30 - 1e-6) & (inside < (t + 1) / 30 + 1e-6)).all())
    assert all(len(w) == 0 for w in gaze.in_windows([torch.nan, 99.0], 4, 8))
    with pytest.raises(ValueError, match="end: before onset"):
        gaze.in_windows([1.0], 4, 8, end=[0.5])


def test_frame_times():
    assert gaze.frame_times(3, 10).tolist() == pytest.approx([0.05, 0.15, 0.25])


# --- interpolation ---


def test_between_samples_the_direction_walks_the_great_arc():
    """Over the pole and the seam at constant speed, not along latitude and longitude."""
    rate, speed = 10, 0.8
    time = torch.arange(40, dtype=torch.float64) / rate
    start = sphere.lonlat_to_xyz(2.0, 0.3)
    way = sphere.great_circle(start, sphere.lonlat_to_xyz(0.0, math.pi / 2), 4)
    at = lambda t: sphere.slerp(way[0], way[1], speed * t / (math.pi / 2))  # noqa: E731
    lon, lat = sphere.xyz_to_lonlat(at(time))
    when = torch.rand(200, generator=torch.Generator().manual_seed(0)).double() * 3.9
    got = sphere.lonlat_to_xyz(*gaze.interpolate(time, lon, lat, when))
    torch.testing.assert_close(got, at(when), atol=1e-12, rtol=0)


def test_gaps_and_ends_stay_unknown():
    time = torch.tensor([[0.0, 0.1, 0.2, 0.9, 1.0], [0.5, 0.5, 0.6, torch.nan, torch.nan]])
    lon = torch.tensor([[0.0, 1.0, 2.0, 3.0, 2.0], [9.0, 1.0, 2.0, 0.0, 0.0]])
    when = torch.tensor([-0.1, 0.0, 0.05, 0.2, 0.5, 0.55, 0.9, 1.0, 1.1])
    got, lat = gaze.interpolate(time.double(), lon, torch.zeros(2, 5), when.double())
    nan = math.nan
    wanted = [[nan, 0, 0.5, 2, nan, nan, 3, 2, nan], [nan, nan, nan, nan, 1, 1.5, nan, nan, nan]]
    torch.testing.assert_close(
        got, torch.tensor(wanted).double(), equal_nan=True, atol=1e-6, rtol=0
    )
    assert torch.equal(got.isnan(), lat.isnan())
    bridged, _ = gaze.interpolate(time[0].double(), lon[0], torch.zeros(5), when, max_gap_s=1)
    assert bridged.isnan().tolist() == [True] + [False] * 7 + [True]


def test_lost_samples_are_passed_over_and_opposite_ones_lead_nowhere():
    time = torch.arange(4, dtype=torch.float64)
    lon = torch.tensor([0.0, torch.nan, 1.0, 1.0 + math.pi]).double()
    got, _ = gaze.interpolate(time, lon, torch.zeros(4), torch.tensor([1.0, 2.5, 3.0]), 2.5)
    assert got[0] == pytest.approx(0.5)
    assert got[1].isnan() and not got[2].isnan()


# --- head and eye ---


def test_an_eye_straight_ahead_looks_where_the_head_points():
    lon, lat = gaze.gaze_in_world(0.7, -0.4, 0.9, 0.0, 0.0)
    assert float(lon) == pytest.approx(0.7) and float(lat) == pytest.approx(-0.4)


def test_head_and_eye_do_not_add():
    """A head that looks up steeply turns a small look to the right into a wide one."""
    up = math.radians(60)
    lon, lat = gaze.gaze_in_world(0.0, up, 0.0, math.radians(20), 0.0)
    assert math.degrees(lon) == pytest.approx(36.05, abs=0.01) and lat < up
    # A head tilted by 90 degrees to the right takes the eye's right down.
    lon, lat = gaze.gaze_in_world(0.0, 0.0, math.pi / 2, 0.3, 0.0)
    assert float(lon) == pytest.approx(0, abs=1e-12) and float(lat) == pytest.approx(-0.3)
    lon, lat = gaze.gaze_in_world(torch.tensor([0.0, torch.nan]), 0.0, 0.0, 0.1, 0.0)
    assert lon.isnan().tolist() == lat.isnan().tolist() == [False, True]


def test_traces_of_unlike_lengths_stand_side_by_side():
    table = gaze.side_by_side([torch.ones(2, 3), np.ones((4, 3))])
    assert table.shape == (2, 4, 3) and table.isnan().sum() == 6
    with pytest.raises(ValueError, match=r"traces\[1\]: shape \(4, 2\)"):
        gaze.side_by_side([torch.ones(2, 3), torch.ones(4, 2)])
