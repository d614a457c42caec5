"""``python -m benchmarks``: every benchmark, its table on the screen and its record in data/."""

from __future__ import annotations

from benchmarks import allocator, prediction, sphere_conv
from benchmarks.measure import save


def main() -> None:
    """Run and print."""
    conv = sphere_conv.run()
    path = save("sphere_conv", conv)
    print(f"{path.name}: {conv['shape']}, pattern in {1000 * conv['pattern_build_s']:.1f} ms")
    for name, row in conv["forward"].items():
        print(f"  {name:42} {1000 * row['median_s']:8.1f} ms   {row['ratio']:5.2f} x")
    speed = prediction.run()
    path = save("prediction", speed)
    print(f"{path.name}: {speed['frames']} frames of {speed['size']}")
    for name, row in speed["models"].items():
        print(f"  {name:42} {row['frames_per_s']:8.1f} frames/s")
    memory = allocator.run()
    path = save("allocator", memory)
    print(f"{path.name}: SST-Sal, {memory['frames']} frames of {memory['size']}")
    for name, row in memory["times"].items():
        print(f"  {name:42} {1000 * row['median_s']:8.1f} ms   {row['ratio']:5.2f} x")


if __name__ == "__main__":
    main()
