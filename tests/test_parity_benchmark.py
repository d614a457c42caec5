"""The page's figures of the published code: computed anew, they are as near."""

from benchmarks import page_parity, parity


def test_published_layers_and_gradients():
    found = parity.run()
    for name, one in found["published"].items():
        assert one["difference"] < 1e-5 * max(1, one["largest"]), name
        assert one["numbers"] > 300 and one["largest"] > 0.05
    assert set(found["gradcheck"].values()) == {"gradcheck passed"}
    assert "10 of 10 layers pass" in page_parity.section(found)
    found["gradcheck"]["one more"] = "wrong"
    assert "10 of 11 layers" in page_parity.section(found)
    assert "Failed: one more: wrong." in page_parity.section(found)
