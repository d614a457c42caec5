"""Efficiency is a ratio within a round, and the page says what was not measured."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import page_scaling, scaling


def test_efficiency_and_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = iter([1.0, 0.5, 2.0])  # how fast the machine happens to be
    now = [1.0]

    def launched(count: int, apart: bool) -> dict[str, Any]:
        if count == 1:
            now[0] = next(rounds)
        rate = {1: 4.0, 2: 6.0}[count] + apart
        row = {"shape": "8 x 6 x 32 x 64", "gradients_mb": 1.5, "clips_per_s": rate * now[0]}
        sums = {"gradients_mb": 50.0, "the sum alone": 1.0, scaling.OURS: 3.0, scaling.TORCHS: 2.0}
        found: dict[str, Any] = {"systems": dict.fromkeys(scaling.SYSTEMS, row)}
        return found | ({"sums": sums} if count > 1 and not apart else {})

    monkeypatch.setattr(scaling, "_launch", launched)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(scaling.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(scaling.os, "getloadavg", lambda: (7.0, 0, 0))
    results = scaling.run()
    for row in results["systems"].values():
        assert row["efficiency"] == {"2": pytest.approx(0.75)}
        assert row["apart"] == pytest.approx(0.875)
        assert row["clips_per_s"]["1"] == 4.0 and row["spread"]["2"] == pytest.approx(4)
    assert list(results["sums"]) == ["2"]
    text = page_scaling.scaling(results)
    assert "75%" in text and "88%" in text and "Several GPUs: not run yet." in text
    assert "busy machine" in text and "7.0 processes" in text
    assert "busy" not in page_scaling.scaling(results | {"load": 0.2})
    assert "not run yet" not in page_scaling.scaling(results | {"backend": "nccl"})
