"""The dice: a world from a seed.

Python's own generator, seeded by a text, gives the same numbers on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from sal360.datasets.synthetic.content import CONTENT, PALETTES, SPLITS
from sal360.datasets.synthetic.world import (
    Camera,
    Colour,
    Light,
    Place,
    Texture,
    Thing,
    Vector,
    World,
    hex_colour,
    unit,
)

SOLID = ("ball", "pebble", "egg")
"""Shapes with a surface all around; the others face the viewer."""


def draw(seed: int, split: str, seconds: float) -> World:
    """See :func:`sal360.datasets.synthetic.world.draw_world`."""
    if split not in SPLITS:
        raise ValueError(f"split: {split!r}, wanted one of {', '.join(map(repr, SPLITS))}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed: {seed!r}, wanted a whole number")
    if seed < 0:
        raise ValueError(f"seed: {seed}, wanted at least 0")
    if not (math.isfinite(seconds) and seconds >= 1):
        raise ValueError(f"seconds: {seconds}, wanted at least 1")
    dice = Random(f"sal360 world {split} {seed}")
    names = CONTENT[split]
    # The first choices go round, so that a few videos already show all places, cameras and skies.
    kind = names["places"][seed % len(names["places"])]
    path = names["cameras"][(seed + seed // len(names["cameras"])) % len(names["cameras"])]
    turn = seed // len(names["places"])
    sky = names["skies"][(turn + turn // len(names["cameras"])) % len(names["skies"])]
    place = _place(dice, names, kind, sky)
    light = _light(dice)
    if path == "travel" and math.isfinite(place.half[0]):  # there is no way out of a room
        path = dice.choice([name for name in names["cameras"] if name != path])
    yaw = 0.0 if path == "travel" else dice.uniform(-math.pi, math.pi)
    things = _things(dice, names, place, seconds, yaw)
    camera = replace(_camera(dice, path), yaw=yaw)
    if path == "travel":
        things = tuple(_beside_the_way(t, camera) for t in things)
    noise = dice.choice((0.0, 0.004, 0.008, 0.015))
    shadow = dice.uniform(0.25, 0.6) if math.isfinite(place.height) else 0.0
    return World(seed, split, place, camera, light, things, noise, shadow)


# --- the place ---

_SKIES: Mapping[str, tuple[str, str, str]] = {  # zenith, horizon, accent
    "clear": ("2f6fc4", "cfe3f2", "fff4d0"),
    "clouds": ("3f7fc9", "bcd6ea", "f7f7f5"),
    "night": ("060b1e", "1d2a4d", "e8ecff"),
    "overcast": ("8b939c", "c9cdd0", "a9b0b8"),
    "sunset": ("2b2d62", "f29a5c", "ffd9a0"),
    "aurora": ("040d18", "0f2a33", "46e0a0"),
    "streaks": ("4a90c2", "dfe9ea", "f4efe6"),
}
_FLOORS: Mapping[str, tuple[tuple[str, str], tuple[float, float]]] = {  # colours, scale in metres
    "grass": (("3f6a2a", "7f9a45"), (0.8, 2.5)),
    "checker": (("b9b2a4", "5d5a58"), (0.6, 1.6)),
    "sand": (("b89a68", "ddc494"), (1.0, 3.0)),
    "tiles": (("a8a29a", "5f5852"), (0.5, 1.2)),
    "gravel": (("6d6a66", "a09a90"), (0.5, 1.2)),
    "planks": (("8a5f3b", "5a3a22"), (0.5, 1.0)),
    "water": (("1f4f66", "5f93a3"), (1.5, 3.5)),
}
_WALLS: Mapping[str, tuple[tuple[str, str], tuple[float, float]]] = {
    "bricks": (("9a5a44", "c9beb0"), (0.5, 0.9)),
    "plaster": (("d8cdb8", "b8a88c"), (0.8, 2.0)),
    "wallpaper": (("8fa8a0", "cfd8c8"), (0.4, 0.9)),
    "panels": (("a98a63", "6f5537"), (0.8, 1.5)),
    "lattice": (("d9d4cc", "8d9aa5"), (0.7, 1.3)),
    "mural": (("b06a5a", "5a7a90"), (1.2, 2.5)),
}
_HILLS = ("3d5a3c", "52664f", "5b6f85", "6f6a58", "38424f")


def _place(dice: Random, names: Mapping[str, tuple[str, ...]], kind: str, sky: str) -> Place:
    walled = kind in ("court", "parlour", "hall", "gallery")
    ceiling = kind in ("parlour", "hall", "gallery")
    zenith, horizon, accent = (_near(dice, hex_colour(c), 0.05) for c in _SKIES[sky])
    height = dice.uniform(1.4, 2.4) if walled else dice.choice((1.6, 2.2, 3.5, 6.0))
    half = (dice.uniform(5.0, 9.0), dice.uniform(5.0, 9.0)) if walled else (math.inf, math.inf)
    roof = dice.uniform(1.6, 3.2) if ceiling else dice.uniform(1.5, 4.0)
    floor = _texture(dice, dice.choice(names["floors"]), _FLOORS)
    wall = _texture(dice, dice.choice(names["walls"]), _WALLS)
    if sky in ("night", "aurora") and not ceiling:  # little light falls on the ground
        floor, wall = (
            replace(s, first=_dim(s.first, 0.4), second=_dim(s.second, 0.4)) for s in (floor, wall)
        )
    pale = _near(dice, (0.88, 0.87, 0.84), 0.05)
    top = Texture(
        names["walls"][1 if kind == "parlour" else 0],
        pale,
        _mix(pale, wall.first, 0.15),
        wall.scale * 1.5,
        dice.randrange(2**31),
    )
    hill = _mix(_near(dice, hex_colour(dice.choice(_HILLS)), 0.05), horizon, 0.35)
    if sky in ("night", "aurora"):
        hill = _dim(hill, 0.3)
    return Place(
        kind=kind,
        height=height,
        half=half,
        roof=roof,
        ceiling=ceiling,
        haze=dice.uniform(25.0, 60.0),
        sky=sky,
        zenith=zenith,
        horizon=horizon,
        accent=accent,
        sky_seed=dice.randrange(2**31),
        skyline="open" if walled else dice.choice(names["skylines"]),
        skyline_height=math.radians(dice.uniform(4.0, 14.0)),
        skyline_colour=hill,
        floor=floor,
        wall=wall,
        top=top,
    )


def _texture(dice: Random, kind: str, table: Mapping[str, Any]) -> Texture:
    colours, (low, high) = table[kind]
    first, second = (_near(dice, hex_colour(c), 0.06) for c in colours)
    return Texture(kind, first, second, dice.uniform(low, high), dice.randrange(2**31))


def _light(dice: Random) -> Light:
    azimuth, height = dice.uniform(-math.pi, math.pi), math.radians(dice.uniform(15, 70))
    return Light(
        towards=(
            math.cos(height) * math.sin(azimuth),
            -math.sin(height),
            math.cos(height) * math.cos(azimuth),
        ),
        direct=dice.uniform(0.35, 0.7),
        swing=dice.choice((0.0, 0.0, 0.04, 0.10)),
        period=dice.uniform(4.0, 15.0),
        phase=dice.uniform(0, 2 * math.pi),
    )


# --- the camera ---


def _camera(dice: Random, path: str) -> Camera:
    """Within 1.3 metres of the origin, but for ``travel``, which goes on along z."""
    sign = dice.choice((-1.0, 1.0))
    reach = dice.uniform(0.7, 1.3)
    turn = dice.uniform(-math.pi, math.pi)
    across = (reach * math.sin(turn), 0.0, reach * math.cos(turn))
    aside = (0.7 * reach * math.cos(turn), 0.0, -0.7 * reach * math.sin(turn))
    if path == "rest":
        return Camera(path)
    if path == "pan":
        return Camera(path, yaw_rate=sign * math.radians(dice.uniform(4, 16)))
    if path == "dolly":
        return Camera(path, sine=across, period=dice.uniform(8, 14))
    if path == "glance":
        return Camera(
            path,
            yaw_swing=math.radians(dice.uniform(10, 35)),
            pitch_swing=math.radians(dice.uniform(2, 6)),
            nod=dice.uniform(5, 9),
        )
    if path == "stroll":
        return Camera(
            path,
            sine=across,
            cosine=aside,
            period=dice.uniform(9, 15),
            yaw_swing=math.radians(dice.uniform(3, 10)),
        )
    if path == "drift":
        return Camera(
            path,
            yaw_rate=sign * math.radians(dice.uniform(1, 4)),
            roll_swing=math.radians(dice.uniform(1, 4)),
            nod=dice.uniform(5, 9),
        )
    if path == "travel":
        return Camera(path, travel=(0.0, 0.0, dice.uniform(0.4, 1.0)))
    return Camera(
        path,
        sine=across,
        double=(0.4 * aside[0], 0.0, 0.4 * aside[2]),
        period=dice.uniform(10, 16),
        pitch_swing=math.radians(dice.uniform(1, 4)),
        roll_swing=math.radians(dice.uniform(1, 4)),
    )


# --- things ---


def _things(
    dice: Random, names: Mapping[str, tuple[str, ...]], place: Place, seconds: float, front: float
) -> tuple[Thing, ...]:
    palette = [hex_colour(c) for c in PALETTES[dice.choice(names["palettes"])]]
    standing = [n for n in names["scenery"] if n != "house" or not place.ceiling]
    things = [_scenery(dice, dice.choice(standing), place) for _ in range(dice.randint(1, 4))]
    for _ in range(dice.randint(1, 2)):
        things.append(_distractor(dice, dice.choice(names["distractors"]), place))
    count = dice.randint(3, 6)
    first = dice.randrange(len(names["behaviours"]))
    for i in range(count):
        behaviour = names["behaviours"][(first + i) % len(names["behaviours"])]
        things.append(_actor(dice, behaviour, names, palette, place, seconds, front))
    return tuple(replace(t, contrast=_contrast(t, place)) for t in things)


def _near_limit(place: Place) -> float:
    """Farthest distance at which a thing stands before the walls, whatever its azimuth."""
    return min(*place.half, 14.0) - 0.6


def _plain(dice: Random, shape: str, distance: float, start: Vector, size: float) -> Thing:
    return Thing(
        shape=shape,
        pattern="plain",
        behaviour="still",
        solid=shape in SOLID,
        attracts=True,
        size=size,
        stretch=1.0,
        first=(0.5, 0.5, 0.5),
        second=(0.5, 0.5, 0.5),
        repeats=1.0,
        contrast=0.0,
        start=start,
        distance=distance,
        period=dice.uniform(3.0, 6.0),
        phase=dice.uniform(0, 2 * math.pi),
    )


def _standing(dice: Random, distance: float, size: float, place: Place) -> tuple[float, Vector]:
    """Distance and direction of the centre of something that stands on the floor."""
    azimuth = dice.uniform(-math.pi, math.pi)
    drop = place.height - size
    whole = math.hypot(distance, drop)
    return whole, unit(distance * math.sin(azimuth), drop, distance * math.cos(azimuth))


def _scenery(dice: Random, shape: str, place: Place) -> Thing:
    sizes = {"tree": (1.8, 3.2), "house": (1.6, 2.6), "column": (1.6, 2.8), "cone": (0.7, 1.6)}
    size = dice.uniform(*sizes.get(shape, (1.3, 2.2)))
    size = min(size, (place.height + place.roof) / 2 * 0.9) if place.ceiling else size
    distance, start = _standing(dice, dice.uniform(0.6, 1.0) * _near_limit(place), size, place)
    colours = {
        "tree": ("3c5e2b", "6d4c2f"),
        "house": ("a48f78", "4a5563"),
        "column": ("b9b4a8", "8f8a80"),
        "cone": ("8c7350", "6b5a44"),
        "arch": ("9c8f86", "7a6f69"),
    }[shape]
    first, second = (_near(dice, hex_colour(c), 0.07) for c in colours)
    if place.sky in ("night", "aurora") and not place.ceiling:
        first, second = _dim(first, 0.45), _dim(second, 0.45)
    stretch = {"tree": 0.7, "house": 0.9, "column": 0.22, "cone": 0.9, "arch": 0.8}[shape]
    thing = _plain(dice, shape, distance, start, size)
    pattern = {"house": "windows", "column": "flutes"}.get(shape, "plain")
    return replace(thing, first=first, second=second, stretch=stretch, pattern=pattern, repeats=2.5)


def _distractor(dice: Random, shape: str, place: Place) -> Thing:
    """Colours close to what lies behind; it moves, flickers or drifts, and means nothing."""
    limit = _near_limit(place)
    up = shape in ("cloudlet", "mist", "lamp", "flag")
    azimuth = dice.uniform(-math.pi, math.pi)
    size = dice.uniform(0.4, 0.8) * (1.6 if shape in ("cloudlet", "mist") else 1.0)
    if up:
        top = 0.6 * place.roof if place.ceiling else limit * 0.5
        height = dice.uniform(0.3, 0.9) * top
        start = unit(limit * math.sin(azimuth), -height, limit * math.cos(azimuth))
        distance = 0.9 * math.hypot(limit, height) if place.ceiling else limit
    else:
        distance, start = _standing(dice, dice.uniform(0.5, 0.9) * limit, size, place)
    behind = _behind(start, place)
    first = _near(dice, _mix(behind, (0.5, 0.5, 0.5), 0.12), 0.04)
    if shape == "bush" and not up:
        first = _mix(first, _dim(hex_colour("4d6b34"), 0.5 if place.sky == "night" else 1), 0.5)
    thing = _plain(dice, shape, distance, start, size)
    thing = replace(
        thing,
        behaviour="distracts",
        attracts=False,
        first=first,
        second=_mix(first, behind, 0.5),
        repeats=2.0,
    )
    if shape in ("bush", "reed", "flag"):
        return replace(
            thing,
            rock=math.radians(dice.uniform(3, 8)),
            stretch={"bush": 1.2, "reed": 0.12, "flag": 1.6}[shape],
            pattern="leaves" if shape == "bush" else "plain",
            period=dice.uniform(1.2, 2.5),
        )
    if shape in ("cloudlet", "mist"):
        return replace(
            thing,
            speed=math.radians(dice.uniform(0.8, 2.0)) * dice.choice((-1, 1)),
            stretch=2.2,
            soft=0.9,
        )
    return replace(thing, flicker=dice.uniform(0.08, 0.18), soft=0.3)


def _actor(
    dice: Random,
    behaviour: str,
    names: Mapping[str, tuple[str, ...]],
    palette: list[Colour],
    place: Place,
    seconds: float,
    front: float,
) -> Thing:
    """Who moves or appears: more often before the camera than behind it."""
    shape = dice.choice(names["shapes"])
    azimuth = front + dice.triangular(-math.pi, math.pi, 0)
    latitude = math.radians(dice.triangular(-25, 40, 2))
    distance = dice.uniform(0.35, 0.85) * _near_limit(place)
    size = distance * math.tan(math.radians(dice.triangular(2.5, 11, 5)))
    thing = _plain(dice, shape, distance, _direction(azimuth, latitude), size)
    first, second = dice.sample(palette, 2)
    strength = dice.choice((1.0, 1.0, 0.8, 0.45))  # some are pale
    behind = _behind(thing.start, place)
    thing = replace(
        thing,
        behaviour=behaviour,
        first=_mix(behind, first, strength),
        second=_mix(behind, second, strength),
        pattern=dice.choice((*names["patterns"], "plain")),
        repeats=dice.uniform(1.5, 3.5),
        stretch=_STRETCH.get(shape, 1.0),
        spin=dice.choice((0.0, 0.0, 0.6, -1.2)),
    )
    thing = _BEHAVIOURS[behaviour](dice, thing, azimuth, seconds)
    return _clear_of(thing, place)


_STRETCH = {
    "rod": 0.28, "pebble": 1.6, "egg": 0.72, "ellipse": 1.5, "box": 1.2, "crescent": 0.9,
}  # fmt: skip


def _turn_rate(dice: Random, slow: float, fast: float) -> float:
    return math.radians(dice.uniform(slow, fast)) * dice.choice((-1.0, 1.0))


def _orbit(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    return replace(t, speed=_turn_rate(dice, 6, 24), bob=dice.choice((0.0, 0.08)) * t.distance)


def _overhead(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    """A great circle that leans by 3 to 15 degrees: over the zenith and below the feet."""
    return _great_circle(dice, t, azimuth, math.radians(dice.uniform(3, 15)), 14, 30, 25)


def _meridian(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    return _great_circle(dice, t, azimuth, math.radians(dice.uniform(1, 6)), 12, 26, 60)


def _underfoot(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    """To and fro through the nadir."""
    t = _great_circle(dice, t, azimuth, math.radians(dice.uniform(2, 10)), 0, 0, 0)
    start = _direction(azimuth, math.radians(-85))
    return replace(
        t, start=start, swing=math.radians(dice.uniform(35, 60)), speed=0.0,
        period=dice.uniform(7, 12),
    )  # fmt: skip


def _great_circle(
    dice: Random, t: Thing, azimuth: float, lean: float, slow: float, fast: float, before: float
) -> Thing:
    axis = _direction(azimuth + math.pi / 2, lean)
    latitude = math.radians(dice.uniform(-10, before))
    # Perpendicular to the axis, at about the latitude wanted.
    flat, high = _direction(azimuth, 0.0), _cross(axis, _direction(azimuth, 0.0))
    high = high if high[1] < 0 else (-high[0], -high[1], -high[2])
    start = tuple(
        math.cos(latitude) * a + math.sin(latitude) * b for a, b in zip(flat, high, strict=True)
    )
    speed = math.radians(dice.uniform(slow, fast))
    rises = _cross(axis, unit(*start))[1] < 0
    return replace(
        t, axis=axis, start=unit(*start), upright=axis, speed=speed if rises else -speed, spin=0.0
    )


def _approach(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    return replace(
        t,
        nearness=dice.uniform(2.2, 4.0),
        distance=t.distance * 1.15,
        size=t.size * 0.55,
        loom_period=dice.uniform(7, 12),
        loom_phase=dice.uniform(0, 2 * math.pi),
        speed=_turn_rate(dice, 0, 4),
    )


def _charge(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    return replace(
        _approach(dice, t, azimuth, seconds),
        nearness=dice.uniform(3.0, 4.5),
        loom_period=dice.uniform(3, 5),
    )


def _appear(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    begin = dice.uniform(0.1, 0.6) * seconds
    return replace(
        t,
        appears=begin,
        disappears=begin + dice.uniform(0.2, 0.5) * seconds,
        speed=_turn_rate(dice, 0, 10),
    )


def _pop(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    begin = dice.uniform(0.15, 0.7) * seconds
    return replace(
        t, appears=begin, disappears=begin + dice.uniform(0.1, 0.25) * seconds, speed=0.0
    )


def _blink(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    return replace(
        t, appears=dice.uniform(-1, 1), blink=dice.uniform(3, 6), speed=_turn_rate(dice, 0, 8)
    )


def _stop_and_go(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    return replace(t, speed=_turn_rate(dice, 8, 20), pause=1.0, period=dice.uniform(3, 6))


def _hesitate(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    """Goes round, and now and then slows down or steps back a little."""
    return replace(t, speed=_turn_rate(dice, 6, 14), pause=1.35, period=dice.uniform(5, 8))


def _pendulum(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    return replace(t, swing=math.radians(dice.uniform(15, 45)), period=dice.uniform(4, 8))


def _pass(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    """Along a straight line past the viewer, again and again."""
    return replace(
        t,
        along=_direction(azimuth + math.pi / 2 * dice.choice((-1, 1)), 0.0),
        length=t.distance * dice.uniform(3, 5),
        distance=t.distance * 0.8,
        slide_period=dice.uniform(6, 11),
        slide_phase=dice.uniform(0, 1),
    )


def _spiral(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    lean = _direction(azimuth + 1.0, math.radians(dice.uniform(40, 65)))
    return replace(
        t,
        axis=lean,
        speed=_turn_rate(dice, 8, 22),
        nearness=dice.uniform(1.5, 2.2),
        size=t.size * 0.7,
        loom_period=dice.uniform(6, 10),
    )


def _zigzag(dice: Random, t: Thing, azimuth: float, seconds: float) -> Thing:
    return replace(
        t,
        speed=_turn_rate(dice, 5, 15),
        bob=dice.uniform(0.12, 0.25) * t.distance,
        period=dice.uniform(1.8, 3.2),
    )


_BEHAVIOURS: Mapping[str, Callable[[Random, Thing, float, float], Thing]] = {
    "orbit": _orbit,
    "overhead": _overhead,
    "approach": _approach,
    "appear": _appear,
    "stop-and-go": _stop_and_go,
    "pendulum": _pendulum,
    "underfoot": _underfoot,
    "pass": _pass,
    "blink": _blink,
    "hesitate": _hesitate,
    "spiral": _spiral,
    "meridian": _meridian,
    "charge": _charge,
    "pop": _pop,
    "zigzag": _zigzag,
}


def _clear_of(t: Thing, place: Place) -> Thing:
    """Bring a thing closer, at the same visual size, until floor and ceiling do not cut it."""
    from sal360.datasets.synthetic.motion import columns, moved

    low, high = moved(columns((t,)))
    low, high = low + t.size + abs(t.bob), high + t.size + abs(t.bob)
    room = place.roof if place.ceiling else math.inf
    scale = min(1.0, 0.97 * place.height / max(low, 1e-6), 0.97 * room / max(high, 1e-6))
    scale = max(scale, 0.16)
    return replace(
        t, distance=t.distance * scale, size=t.size * scale, bob=t.bob * scale,
        length=t.length * scale,
    )  # fmt: skip


def _beside_the_way(t: Thing, camera: Camera) -> Thing:
    """Where the camera travels, actors go along; what stands is set aside from its path."""
    if t.behaviour not in ("still", "distracts") or t.soft > 0.5:
        return replace(t, follow=1.0)
    x, y, z = t.start
    x = math.copysign(max(abs(x), 0.35), x)
    whole = unit(x, y, z)
    return replace(t, start=whole, distance=t.distance * (y / whole[1]) if y > 0.05 else t.distance)


# --- colours and directions ---


def _behind(start: Vector, place: Place) -> Colour:
    """About what colour the background has in a direction."""
    if place.ceiling or (math.isfinite(place.half[0]) and start[1] > -0.2):
        surface = place.wall if abs(start[1]) < 0.35 else place.floor if start[1] > 0 else place.top
        return _mix(surface.first, surface.second, 0.4)
    if start[1] > 0.03:
        return _mix(place.floor.first, place.floor.second, 0.5)
    return _mix(place.horizon, place.zenith, min(1.0, max(0.0, -start[1]) ** 0.6))


def _contrast(t: Thing, place: Place) -> float:
    behind, own = _behind(t.start, place), _mix(t.first, t.second, 0.35)
    apart = math.dist(behind, own) / math.sqrt(3)
    inner = 0.0 if t.pattern == "plain" else 0.35 * math.dist(t.first, t.second) / math.sqrt(3)
    return min(1.0, 1.4 * math.hypot(apart, inner))


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    r, g, b_ = (x + share * (y - x) for x, y in zip(a, b, strict=True))
    return r, g, b_


def _dim(a: Colour, share: float) -> Colour:
    return a[0] * share, a[1] * share, a[2] * share


def _near(dice: Random, colour: Colour, spread: float) -> Colour:
    r, g, b = (min(1.0, max(0.0, c + dice.uniform(-spread, spread))) for c in colour)
    return r, g, b


def _direction(azimuth: float, latitude: float) -> Vector:
    return (
        math.cos(latitude) * math.sin(azimuth),
        -math.sin(latitude),
        math.cos(latitude) * math.cos(azimuth),
    )


def _cross(a: Vector, b: Vector) -> Vector:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )
