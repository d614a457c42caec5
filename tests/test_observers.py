"""Observers of synthetic worlds: what must hold of them, and what they must not do."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sal360.datasets.synthetic import GazeModel, draw_crowd, watch
from sal360.datasets.synthetic.head import trace
from sal360.datasets.synthetic.priority import angle, stage
from sal360.datasets.synthetic.scanpath import explore
from sal360.datasets.synthetic.world import draw_world
from sal360.experiments import observers as experiment
from sal360.gaze.statistics import angular_speed, equator_bias, front_bias, revisits
from sal360.sphere import angle_between, lonlat_to_xyz, rotation_matrix, xyz_to_lonlat

ROOT = Path(__file__).resolve().parents[1]
FRAMES = torch.arange(80) / 8.0
"""Ten seconds."""


def thing(lon, lat=0.0, **kw):
    """One thing: degrees, degrees per second; the rest as in a world's state."""
    return {"lon": lon, "lat": lat, "turns": 0.0, "radius": 5.0, "contrast": 0.8, "looming": 0.0,
            "onset": -math.inf, "attracts": True, "relative": 0.0, **kw}  # fmt: skip


class Scene:
    """Things that turn around the vertical, seen by a camera that may be turned by ``R``."""

    def __init__(self, *things, seed=0, R=None):
        self.things, self.seed = things, seed
        self.R = torch.eye(3, dtype=torch.float64) if R is None else R

    def column(self, name, dtype=torch.float64):
        return torch.tensor([each[name] for each in self.things], dtype=dtype)

    def state(self, times):
        t = torch.as_tensor(times, dtype=torch.float64)[:, None]
        still = torch.zeros(len(t), len(self.things), dtype=torch.float64)
        lon = torch.deg2rad(self.column("lon") + t * self.column("turns"))
        directions = lonlat_to_xyz(lon, torch.deg2rad(self.column("lat")) + still)
        speed = torch.deg2rad(self.column("turns").abs()) + still
        onset = self.column("onset") + still
        shown = onset <= t
        axis = torch.eye(3, dtype=torch.float64)[:, None].expand(3, len(t), 3) @ self.R.T
        return SimpleNamespace(
            directions=directions @ self.R.T,
            radius=torch.deg2rad(self.column("radius")) + still,
            visible=shown.double(),
            speed=speed,
            relative_speed=torch.deg2rad(self.column("relative")) + still,
            contrast=self.column("contrast"),
            looming=self.column("looming") + still,
            last_onset=onset.masked_fill(~shown, -math.inf),
            attracts=self.column("attracts", torch.bool),
            gravity=axis[1],
            heading=axis[2],
        )


CROWDED = [thing(20, 5, turns=12), thing(-60, -10, turns=-20), thing(150, 30, radius=10),
           thing(-150, 60, turns=30), thing(90, onset=4.0),
           thing(-20, -20, attracts=False)]  # fmt: skip


def on(watched, lon, lat=0.0, radius=5.0, first=0.0, last=math.inf):
    """Share of gaze samples within a disc that stands still."""
    here = lonlat_to_xyz(math.radians(lon), math.radians(lat))
    now = (watched.clock >= first) & (watched.clock < last)
    close = angle_between(watched.gaze[:, now], here) < math.radians(radius)
    return float(close.double().mean())


@pytest.fixture(scope="module")
def crowded():
    return watch(Scene(*CROWDED, seed=3), FRAMES)


def test_the_same_seeds_give_the_same_gaze_and_other_seeds_another(crowded):
    again = watch(Scene(*CROWDED, seed=3), FRAMES)
    assert torch.equal(crowded.gaze, again.gaze) and torch.equal(crowded.head, again.head)
    assert torch.equal(crowded.onset, again.onset)
    for other in (watch(Scene(*CROWDED, seed=4), FRAMES),
                  watch(Scene(*CROWDED, seed=3), FRAMES, seed=1)):  # fmt: skip
        assert not torch.allclose(crowded.gaze, other.gaze)


def test_what_comes_later_does_not_change_what_was_before(crowded):
    short = watch(Scene(*CROWDED, seed=3), FRAMES[:24])
    S = len(short.clock)
    assert torch.allclose(short.gaze, crowded.gaze[:, :S], atol=1e-12)
    assert torch.allclose(short.head, crowded.head[:, :S], atol=1e-12)
    assert torch.equal(short.fixating, crowded.fixating[:, :S])
    for t in range(24):
        assert torch.allclose(short.fixations[t], crowded.fixations[t], atol=1e-12)


def test_the_same_people_watch_every_world():
    many, few = draw_crowd(48), draw_crowd(12)
    for name in vars(few):
        assert np.array_equal(getattr(many, name)[:12], getattr(few, name))
    assert not np.array_equal(draw_crowd(48, 1).interest, many.interest)


@pytest.mark.parametrize("angles", [(math.pi, 0, 0), (0.4, 1.5, 0), (-2.0, -0.9, 2.0)])
def test_a_turned_scene_is_watched_as_before_across_seam_and_poles(crowded, angles):
    """Nothing depends on the panorama's own axes, so no seam and no pole exists."""
    R = rotation_matrix(*angles)
    turned = watch(Scene(*CROWDED, seed=3, R=R), FRAMES)
    assert angle_between(turned.gaze, crowded.gaze @ R.T).max() < 1e-6
    assert angle_between(turned.head, crowded.head @ R.T).max() < 1e-6
    assert torch.equal(turned.fixating, crowded.fixating)


def test_gaze_and_head_move_without_jumps(crowded):
    """Gaze at most at a saccade's peak speed, the head far below; both stay unit vectors."""
    for xyz in (crowded.gaze, crowded.head):
        assert torch.allclose(torch.linalg.vector_norm(xyz, dim=-1), torch.ones(()).double())
    assert angular_speed(crowded.clock, crowded.gaze).max().rad2deg() < 900
    assert angular_speed(crowded.clock, crowded.head).max().rad2deg() < 400


def test_the_eyes_stay_in_the_head(crowded):
    limit = GazeModel().eye_limit
    away = angle_between(crowded.gaze, crowded.head)
    assert float(away.max()) <= limit + 1e-9
    assert float(away.max()) > 0.99 * limit  # and they reach it
    tight = watch(Scene(*CROWDED), FRAMES, model=GazeModel(eye_limit=math.radians(18)))
    assert angle_between(tight.gaze, tight.head).max() <= math.radians(18) + 1e-9


def test_durations_and_amplitudes_are_plausible(crowded):
    model, tick = GazeModel(), 1 / 60
    whole = crowded.onset + crowded.duration < crowded.clock[-1] - tick
    assert crowded.duration.max() <= model.longest + tick
    assert 0.2 < crowded.duration[whole].median() < 0.6
    assert (crowded.duration[whole] < model.shortest - tick).double().mean() < 0.03
    same = crowded.observer[1:] == crowded.observer[:-1]
    jump = angle_between(crowded.direction[1:], crowded.direction[:-1])[same].rad2deg()
    assert 5 < jump.median() < 30 and jump.quantile(0.95) < 120
    assert 1 < len(crowded.onset) / 480 < 4  # fixations per second


def test_fixations_are_in_order_and_do_not_overlap(crowded):
    same = crowded.observer[1:] == crowded.observer[:-1]
    assert bool((crowded.observer.diff() >= 0).all())
    end = crowded.onset + crowded.duration
    assert bool((crowded.onset[1:] >= end[:-1] - 1e-9)[same].all())
    assert set(crowded.observer.tolist()) == set(range(48))


def test_a_frame_gets_the_gaze_of_its_middle_of_those_who_fixate(crowded):
    assert len(crowded.fixations) == len(FRAMES) and crowded.heads.shape == (80, 48, 2)
    for t in (0, 17, 79):
        s = round((float(FRAMES[t]) + 1 / 16) * 60)
        who = crowded.fixating[:, s].nonzero()[:, 0]
        assert torch.equal(crowded.observers[t], who)
        lon, lat = xyz_to_lonlat(crowded.gaze[who, s])
        assert torch.allclose(crowded.fixations[t], torch.stack((lon, lat), -1), atol=1e-12)
    assert 24 < sum(map(len, crowded.fixations)) / 80 < 48


def test_watching_at_another_frame_rate_is_watching_the_same():
    slow, fast = (watch(Scene(*CROWDED), torch.arange(n) / (n / 4), n=8) for n in (16, 120))
    assert torch.equal(slow.gaze, fast.gaze)
    only = watch(Scene(*CROWDED), [1.0], n=8, window=0.25)
    assert torch.allclose(only.fixations[0], slow.fixations[4], atol=1e-12)


def sides(*things, lon=35, seeds=4):
    """Shares of gaze on two places at the same height and distance from the front."""
    seen = [watch(Scene(*things, seed=seed), FRAMES) for seed in range(seeds)]
    return [float(np.mean([on(each, side) for each in seen])) for side in (lon, -lon)]


def looked_at(*things, seeds=5, first=0.0, last=10.0):
    """Seconds of fixation on each thing, of all observers, between two times."""
    total = np.zeros(len(things))
    for seed in range(seeds):
        seen = watch(Scene(*things, seed=seed), FRAMES)
        begin, end = (t.clamp(first, last) for t in (seen.onset, seen.onset + seen.duration))
        for k in range(len(things)):
            total[k] += float((end - begin)[seen.target == k].sum())
    return total


def test_a_distractor_is_looked_at_no_more_than_empty_background():
    """However it moves, looms and pops up."""
    loud = thing(35, attracts=False, contrast=1.0, looming=2.0, onset=2.0, relative=60.0)
    for world in range(2):
        seen = watch(Scene(loud, seed=world), FRAMES)
        empty = watch(Scene({**loud, "contrast": 0.0}, seed=world), FRAMES)
        assert bool((seen.target == -1).all())
        assert torch.equal(seen.gaze, empty.gaze)  # as if it were not there
    right, left = sides(loud)
    assert abs(right - left) < 0.03 and right < 0.06
    right, left = sides({**loud, "attracts": True})
    assert right > 5 * left  # were it to attract, it would be looked at


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ({"looming": 0.5}, {}),
        ({"relative": 30.0}, {}),
        ({"contrast": 0.8}, {"contrast": 0.4}),
        ({"radius": 12.0}, {"radius": 2.0}),
    ],
)
def test_looming_motion_contrast_and_size_draw_the_gaze(more, less):
    louder, plain = looked_at(thing(20, **more), thing(-20, **less), seeds=4)
    assert louder > 1.2 * plain


def test_what_appears_draws_the_gaze_for_a_while():
    pair = thing(20, onset=3.0), thing(-20)
    new, old = looked_at(*pair, first=3.2, last=5.0)
    assert new > 1.5 * old
    assert looked_at(*pair, last=3.0)[0] == 0  # nobody foresees it


def test_something_new_cuts_a_fixation_short():
    def first_look(capture):
        model = GazeModel(capture=capture, delay=3.0, fixation=2.0)
        seen = watch(Scene(thing(15, onset=1.0)), FRAMES, n=200, model=model)
        return float((on_time(seen, 15) < 1.6).double().mean())

    assert first_look(1.0) == first_look(0.0)  # the first look waits for the start, not for things
    late = {}
    for capture in (0.0, 1.0):
        model = GazeModel(capture=capture, delay=0.5, fixation=2.0, fixation_spread=0.1)
        seen = watch(Scene(thing(15, onset=4.0)), FRAMES, n=200, model=model)
        late[capture] = float((on_time(seen, 15, after=4.0) < 4.6).double().mean())
    assert late[1.0] > late[0.0] + 0.2


def on_time(seen, lon, after=0.0):
    """When each observer's gaze is first within 5 degrees of a place, infinite if never."""
    close = angle_between(seen.gaze, lonlat_to_xyz(math.radians(lon), 0.0)) < math.radians(5)
    close &= seen.clock >= after
    return torch.where(close, seen.clock, math.inf).min(1).values


def test_inhibition_of_return_keeps_from_going_straight_back():
    pair = [thing(8, radius=3), thing(-8, radius=3)]
    back = {}
    for inhibition in (0.0, 0.9):
        model = GazeModel(inhibition=inhibition, interest=20.0)
        seen = [watch(Scene(*pair, seed=s), FRAMES, model=model) for s in range(3)]
        back[inhibition] = np.mean([
            revisits(s.direction, s.observer, math.radians(6)) for s in seen
        ])  # fmt: skip
    assert back[0.9] < 0.8 * back[0.0]


def test_people_differ_more_than_one_person_from_world_to_world():
    """One-way analysis of variance of the head's mean speed, 48 people in 8 worlds."""
    speed = torch.stack([
        angular_speed(seen.clock, seen.head).mean(1)
        for seen in (watch(Scene(*CROWDED, seed=s), FRAMES[:48]) for s in range(8))
    ])  # fmt: skip
    speed = speed - speed.mean(1, keepdim=True)
    between = 8 * speed.mean(0).var()
    within = (speed - speed.mean(0)).pow(2).sum() / (7 * 47)
    assert between > 3 * within  # F(47, 329) = 1.4 at 5 percent


def test_moving_things_are_followed():
    seen = watch(Scene(thing(-40, turns=25, radius=6), seed=1), FRAMES, n=96)
    lon = torch.deg2rad(-40 + 25 * seen.clock)
    there = angle_between(seen.gaze, lonlat_to_xyz(lon, torch.zeros_like(lon))) < math.radians(6)
    follows = (there & seen.fixating)[:, 1:] & (there & seen.fixating)[:, :-1]
    assert float(follows.double().mean()) > 0.05
    speed = angular_speed(seen.clock, seen.gaze).rad2deg()[follows]
    assert float(speed.median()) == pytest.approx(25, abs=0.5)


def test_what_is_behind_is_not_seen_before_one_turns():
    """Nobody knows of it: the first look away from the front is never at it."""
    seen = watch(Scene(thing(180, radius=20, contrast=1.0, relative=40.0)), FRAMES, n=200)
    turned = on_time_of_head(seen, 130)
    looks = seen.onset[seen.target == 0]
    who = seen.observer[seen.target == 0]
    assert len(looks) > 50
    assert bool((looks >= turned[who]).all())


def on_time_of_head(seen, degrees):
    """When each head is first within ``degrees`` of the direction behind."""
    behind = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    close = angle_between(seen.head, behind) < math.radians(degrees)
    return torch.where(close, seen.clock, math.inf).min(1).values


def test_an_empty_world_is_explored_near_horizon_and_front():
    seen = watch(Scene(seed=5), torch.arange(240) / 8.0)
    bias = equator_bias(seen.gaze)
    assert bias.within[20] > 0.6 and 0.15 < bias.sd < 0.45
    start = seen.clock < 0.5
    assert front_bias(seen.gaze[:, start]).within[30] > 0.95
    assert front_bias(seen.gaze).within[90] > 0.6
    free = watch(Scene(seed=5), torch.arange(240) / 8.0,
                 model=GazeModel(equator_floor=1.0, front_first=0.0, front_later=0.0))  # fmt: skip
    assert equator_bias(free.gaze).within[20] < bias.within[20] - 0.1
    assert front_bias(free.gaze).within[90] < front_bias(seen.gaze).within[90] - 0.1


def test_head_leads_to_what_the_eyes_cannot_reach_and_follows_elsewhere():
    model = GazeModel()
    scene = stage(Scene(*CROWDED, seed=3), 10.0, 60.0, model)
    crowd = draw_crowd(48)
    path = explore(scene, crowd, 10.0, (3, 0), model)
    traces = trace(path, scene, crowd, model)
    moved = {True: [], False: []}
    for i, k in zip(*np.nonzero((path.leave > 0.5) & (path.leave < 9)), strict=True):
        goal = path.place[i, k] if path.target[i, k] < 0 else None
        if goal is None or path.leave[i, k] - path.land[i, k - 1] < 0.3:
            continue  # surroundings only, and no look so short that heads are still on their way
        s = round(path.leave[i, k] * 60)
        before, at = (float(angle(traces.head[i, t], goal)) for t in (s - 6, s))
        moved[bool(path.far[i, k])].append(math.degrees(before - at) / 0.1)
    assert min(len(each) for each in moved.values()) > 40
    far, near = np.mean(moved[True]), np.mean(moved[False])
    assert far > near + 5  # degrees per second towards the next goal, before the eyes leave


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_drawn_worlds_are_watched(split):
    world = draw_world(1, split)
    seen = watch(world, FRAMES, n=24)
    distracts = [k for k, each in enumerate(world.things) if not each.attracts]
    assert distracts and not set(distracts) & set(seen.target.tolist())
    assert float((seen.target >= 0).double().mean()) > 0.1
    assert torch.isfinite(seen.gaze).all()


def test_bad_input_is_refused():
    scene = Scene(thing(0))
    for call, message in [
        (lambda: watch(scene, []), "times: shape"),
        (lambda: watch(scene, [[0.0]]), "times: shape"),
        (lambda: watch(scene, [1.0, 0.5]), "times: negative or not"),
        (lambda: watch(scene, [-1.0, 0.5]), "times: negative or not"),
        (lambda: watch(scene, [0.0]), "window: None"),
        (lambda: watch(scene, [0.0], window=0.0), "window: 0"),
        (lambda: watch(scene, FRAMES, n=0), "n: 0"),
        (lambda: watch(scene, FRAMES, seed=-1), "seed: -1"),
        (lambda: watch(scene, [0.0, math.nan]), "times: holds NaN"),
        (lambda: watch(Broken(thing(0), wrong="nan"), FRAMES), "world.state: radius holds NaN"),
        (lambda: watch(Broken(thing(0), wrong="shape"), FRAMES), "world.state: radius of shape"),
        (lambda: draw_crowd(0), "n: 0"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            call()
    with pytest.raises(TypeError, match="^n: 2.5"):
        watch(scene, FRAMES, n=2.5)


class Broken(Scene):
    def __init__(self, *things, wrong):
        super().__init__(*things)
        self.wrong = wrong

    def state(self, times):
        state = super().state(times)
        bad = state.radius * math.nan if self.wrong == "nan" else state.radius[:-1]
        return SimpleNamespace(**{**vars(state), "radius": bad})


def test_a_model_is_plain_numbers_that_can_be_changed_one_by_one():
    model = replace(GazeModel(), interest=0.0)
    seen = watch(Scene(*CROWDED), FRAMES, n=12, model=model)
    assert bool((seen.target == -1).all())


def test_the_record_of_the_comparison_is_of_this_model_and_of_no_video_that_tuned_it():
    record = experiment.load(ROOT / "data" / "runs" / "observers.json")
    assert record["model"] == asdict(GazeModel())
    tuning, report = record["halves"]["tuning"], record["halves"]["report"]
    for part in ("videos", "worlds"):
        assert not set(tuning[part]) & set(report[part])
    assert len(report["videos"]) == 10 and len(report["worlds"]) >= 12
    assert tuning["crowd"] != report["crowd"]
    for name, row in record["statistics"].items():
        mean, half = row["difference"]
        assert mean == pytest.approx(row["synthetic"][0] - row["real"][0], abs=2e-4)
        assert (abs(mean) > half) == (name in record["differs"])
    known = set(record["model"])
    for names in record["tuned"].values():
        assert all(name in known or "draw_crowd" in name for name in names)


def test_statistics_of_heads_are_those_of_known_heads():
    """Everybody turns to the right together at 10 degrees a second along the equator."""
    lon = torch.deg2rad(10 * experiment.CLOCK)
    heads = lonlat_to_xyz(lon, torch.zeros_like(lon)).expand(6, -1, -1)
    found = experiment.describe(heads)
    assert found["latitude sd"] == 0 and found["within 10 of equator"] == 1
    assert found["from start at 5 s"] == pytest.approx(45)  # the clock begins at half a second
    assert found["speed quantile 50"] == pytest.approx(10) and found["speed sd over people"] == 0
    assert found["cosine after 10 s"] == pytest.approx(1)
    assert found["split half, all time"] == pytest.approx(1)
    assert found["seen 180 by 10 s"] == 0 and found["seen 180 by 20 s"] == 1
    assert found["back after 1 s"] == 1 and found["back after 2 s"] == 0  # 15 degrees around
    table = experiment.compare([found, found, found], [found, found])
    assert table["speed quantile 50"]["difference"][0] == pytest.approx(0)


def test_real_and_synthetic_heads_are_read_alike(real):
    real("avtrack360/Head_rotation/2.json")
    heads = experiment.real_heads()
    assert sorted(heads) == list(range(1, 21))
    assert all(xyz.shape == (48, 295, 3) and bool(xyz.isfinite().all()) for xyz in heads.values())
    watched = experiment.watched_worlds([0], 0, n=4)[0]
    ours = experiment.read_heads(watched)
    assert ours.shape == (4, 295, 3)
    lon, lat = (torch.rad2deg(angle) for angle in xyz_to_lonlat(ours))
    assert (lon - lon.round()).abs().max() < 1e-9 and (lat - lat.round()).abs().max() < 1e-9
    assert angle_between(ours, watched.head[:, 30::6][:, :295]).rad2deg().max() < 0.8


def test_a_record_is_written_whole_and_read_back(tmp_path):
    record = experiment.load(ROOT / "data" / "runs" / "observers.json")
    experiment.save(record, tmp_path / "new" / "record.json")
    assert experiment.load(tmp_path / "new" / "record.json") == record
    bad = tmp_path / "bad.json"
    for text, message in (("{", "not JSON"), ("{}", "not a record")):
        bad.write_text(text)
        with pytest.raises(ValueError, match=f"^{bad}: {message}"):
            experiment.load(bad)
