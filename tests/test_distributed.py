"""Several processes make the steps that one would."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sal360.training.distributed import ALONE, ProcessLost, World, _buckets, setup
from sal360.training.shared_norm import SharedBatchNorm, share_norms
from tests.ranks import run_ranks

TINY = 1e-12
CARRIED = 900  # bytes of a bucket: several of them for the small networks below


def small_net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 1, 3), nn.Dropout(0.0)
    ).double()


def clips() -> tuple[Tensor, Tensor]:
    """Eight pictures, and which of them have a truth: an uneven share of each half."""
    torch.manual_seed(4)
    told = torch.tensor([1, 1, 1, 1, 0, 0, 1, 0]).bool()
    return torch.randn(8, 2, 9, 9, dtype=torch.float64) * 3 + 5, told


def steps_of(world: World, count: int = 3) -> dict[str, Any]:
    """Weights after a few steps of SGD on a rank's share of the pictures."""
    model = world.prepare(small_net())
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    pictures, told = clips()
    n = len(pictures) // world.size
    mine = slice(world.rank * n, (world.rank + 1) * n)
    for step in range(count):
        optimizer.zero_grad()
        losses = (model(pictures[mine]) - step).square().mean((1, 2, 3))
        here = told[mine]
        share = int(here.sum()) / int(world.sum(here.sum()))  # a tensor would divide in float32
        (losses[here].mean() * share if bool(here.any()) else losses.sum() * 0).backward()
        world.sum_gradients(model, CARRIED)
        if step == 0:
            first = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        optimizer.step()
    return {
        "gradients": first,
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "names": [type(layer).__name__ for layer in model],
    }


def odd_gradients(world: World) -> list[Any]:
    """One parameter has a gradient on rank 1 alone, one nowhere, one is frozen."""
    model = nn.ParameterList([nn.Parameter(torch.ones(2)) for _ in range(4)])
    model[3].requires_grad_(False)
    model[0].grad = torch.full((2,), 1.0 + world.rank)
    if world.rank:
        model[1].grad = torch.full((2,), 5.0)
    world.sum_gradients(model)
    return [None if p.grad is None else p.grad.tolist() for p in model]


def beside_torch(world: World) -> float:
    """The largest difference of our gradients from DistributedDataParallel's."""
    from torch.nn.parallel import DistributedDataParallel

    ours, theirs = world.prepare(small_net()), world.prepare(small_net())
    pictures, _ = clips()
    mine = pictures[world.rank * 4 : world.rank * 4 + 4]
    (ours(mine).square().mean() / world.size).backward()
    world.sum_gradients(ours, CARRIED)
    engine = DistributedDataParallel(theirs)
    engine(mine).square().mean().backward()
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    return max(float((a.grad - b.grad).abs().max()) for a, b in pairs)  # type: ignore[operator]


def messages(world: World) -> dict[str, Any]:
    out: dict[str, Any] = {
        "sum": world.sum(torch.tensor([1.0, world.rank])).tolist(),
        "any": (world.any(world.rank == 1), world.any(False)),
        "gather": world.gather({"rank": world.rank}),
        "main": world.main,
    }
    world.same("plan", "abc")
    try:
        world.same("seed", 7 + world.rank)
    except ValueError as error:
        out["same"] = str(error)
    model = nn.Linear(2, 1)
    model.weight.data.fill_(world.rank + 1.0)
    out["weights"] = world.prepare(model).weight.tolist()
    return out


def together() -> dict[str, Any]:
    """What the tests of this file ask of two processes, in one go."""
    world = setup("cpu")
    found = {
        "steps": steps_of(world),
        "odd": odd_gradients(world),
        "messages": messages(world),
        "beside torch": beside_torch(world),
    }
    world.close()
    return found


def killed() -> str:
    """Rank 1 dies as an out-of-memory killer would have it."""
    world = setup("cpu")
    world.barrier()
    if world.rank:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        for _ in range(100):
            world.barrier()
    except ProcessLost as error:
        return str(error)
    return "nothing noticed"


@pytest.fixture(scope="module")
def two() -> list[Any]:
    found = run_ranks(together)
    assert all(isinstance(each, dict) for each in found), found
    return found


def test_two_processes_make_the_steps_of_one(two: list[Any]) -> None:
    # Batch statistics over both, sums over several buckets, truth unevenly spread.
    one = steps_of(ALONE)
    for rank in two:
        assert rank["steps"]["names"][1] == "SharedBatchNorm"
        for ours, theirs in zip(one["gradients"], rank["steps"]["gradients"], strict=True):
            torch.testing.assert_close(theirs, ours, rtol=TINY, atol=TINY)
        assert list(rank["steps"]["state"]) == list(one["state"])
        for name, value in one["state"].items():
            torch.testing.assert_close(rank["steps"]["state"][name], value, rtol=TINY, atol=TINY)
    for name, value in two[0]["steps"]["state"].items():
        assert torch.equal(value, two[1]["steps"]["state"][name]), name


def test_a_gradient_that_one_process_has_reaches_all(two: list[Any]) -> None:
    assert two[0]["odd"] == two[1]["odd"] == [[3.0, 3.0], [5.0, 5.0], None, None]


def test_gradients_are_those_of_torchs_own_engine(two: list[Any]) -> None:
    assert max(each["beside torch"] for each in two) < TINY


def test_messages_between_processes(two: list[Any]) -> None:
    for rank, found in enumerate(each["messages"] for each in two):
        assert found["sum"] == [2.0, 1.0]
        assert found["any"] == (True, False)
        assert found["gather"] == [{"rank": 0}, {"rank": 1}]
        assert found["main"] == (rank == 0)
        assert found["same"] == "seed: 8 on rank 1, wanted 7 as on rank 0"
        assert found["weights"] == [[1.0, 1.0]]


def test_a_process_that_is_killed_is_noticed_in_one_line() -> None:
    told, dead = run_ranks(killed)
    assert dead is None
    assert told.startswith("rank 0 of 2: another process ended or cannot be reached")
    assert "\n" not in told


def test_buckets_hold_neighbours_of_one_kind() -> None:
    sizes = [(3, torch.float32), (2, torch.float32), (9, torch.float32), (1, torch.float64)]
    gradients = [torch.zeros(n, dtype=kind) for n, kind in sizes]
    groups = [[len(g) for g in group] for group in _buckets(gradients, 20)]
    assert groups == [[3, 2], [9], [1]]


def test_alone_nothing_is_asked_of_anyone() -> None:
    model = small_net()
    assert ALONE.prepare(model) is model
    assert isinstance(model[1], nn.BatchNorm2d) and not isinstance(model[1], SharedBatchNorm)
    assert ALONE.main and ALONE.gather(4) == [4]
    assert ALONE.sum(torch.tensor(2)) == 2 and ALONE.any(True) and not ALONE.any(False)
    ALONE.sum_gradients(model)
    ALONE.same("step", 1)
    ALONE.barrier()
    ALONE.close()


def test_norms_keep_their_names_and_values() -> None:
    model = small_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changed = share_norms(model)
    assert changed is model and isinstance(model[1], SharedBatchNorm)
    assert list(before) == list(changed.state_dict())
    pictures, _ = clips()
    torch.testing.assert_close(changed.eval()(pictures), small_net().eval()(pictures))
    assert isinstance(share_norms(nn.BatchNorm2d(2)), SharedBatchNorm)


def test_what_torchrun_left_is_read_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert setup("cpu") == World(device=torch.device("cpu"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="RANK: None in the environment, wanted a number"):
        setup("cpu")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="nproc-per-node: 2, wanted at most 1, the GPUs there are"):
        setup("cuda")
    with pytest.raises(ValueError, match="device: cuda:1, wanted cuda: each of 2 processes has"):
        setup("cuda:1")
    with pytest.raises(ValueError, match="device: mps, wanted cpu or cuda for 2 processes"):
        setup("mps")
    for size in ("1", "2"):
        monkeypatch.setenv("WORLD_SIZE", size)
        with pytest.raises(ValueError, match="device: 'gpu', wanted cpu or cuda"):
            setup("gpu")
