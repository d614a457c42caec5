"""Plain pickles, arrays and checkpoints that want to run code, or to eat the memory: refused.

The readers run in a process that may take little memory, so that a file that makes them reserve
much fails the test instead of the machine.
"""

import builtins
import contextlib
import io
import os
import pickle
import pickletools
import resource
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict, defaultdict

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from sal360.datasets.layouts import open_dataset
from sal360.datasets.layouts.verify import verify
from sal360.pickle_machine import Machine, check_pickle
from sal360.safe_arrays import read_npy, read_npz
from sal360.safe_pickle import UnsafePickleError, read_plain_pickle, read_torch_tensors
from tests.layout_sets import copied

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def stored(tmp_path, value, protocol=2):
    path = tmp_path / "data.pkl"
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol=protocol))
    return path


# --- what is read --------------------------------------------------------------------------------

leaves = (
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text(max_size=8)
    | st.floats(allow_nan=False) | st.binary(max_size=8)
)  # fmt: skip
keys = st.text(max_size=5) | st.integers(-5, 5) | st.tuples(st.integers(0, 9), st.text(max_size=2))
plain = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.tuples(inner, inner)
        | st.tuples()
        | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=20,
)


@given(value=plain, protocol=st.sampled_from(list(PROTOCOLS)))
@settings(max_examples=60)
def test_whatever_is_plain_comes_back(tmp_path_factory, value, protocol):
    folder = tmp_path_factory.mktemp("p", numbered=True)
    path = stored(folder, pickle.dumps(value, protocol=protocol))
    again = read_plain_pickle(path)
    assert again == value and type(again) is type(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_and_arrays_of_numpy_sets_and_dicts_of_all_kinds(tmp_path, protocol):
    several = defaultdict(list, a=[1])
    value = {
        "order": OrderedDict(b=1, a=2),
        "several": several,
        "set": {1, "x"},
        "frozen": frozenset([(1, 2)]),
        "number": [np.float64(0.25), np.int32(-3), np.bool_(True)],
        "c": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big-endian": np.arange(3, dtype=">i2"),
        "empty": np.zeros((0, 2)),
        "shared": [several, several],
    }
    again = read_plain_pickle(stored(tmp_path, value, protocol))
    assert again["order"] == {"b": 1, "a": 2} and type(again["order"]) is dict
    assert again["several"] == {"a": [1]} and again["shared"] == [{"a": [1]}] * 2
    assert again["set"] == {1, "x"} and again["frozen"] == frozenset([(1, 2)])
    assert again["number"] == [0.25, -3, True]
    for name in ("c", "f", "big-endian", "empty"):
        assert np.array_equal(again[name], value[name]) and again[name].flags.writeable
        assert again[name].dtype.kind == value[name].dtype.kind


def test_a_pickle_of_python_2(tmp_path):
    """``pickle.dumps({'a': [(0.5, 1L)]}, p)`` as Python 2 wrote it, text and binary."""
    text = b"(dp0\nS'a'\np1\n(lp2\n(F0.5\nL1L\ntp3\nas."
    assert read_plain_pickle(stored(tmp_path, text)) == {"a": [(0.5, 1)]}
    binary = (
        b"\x80\x02}q\x00U\x01aq\x01]q\x02G?\xe0\x00\x00\x00\x00\x00\x00\x8a\x01\x01\x86q\x03as."
    )
    assert read_plain_pickle(stored(tmp_path, binary)) == {"a": [(0.5, 1)]}


# --- what is refused -----------------------------------------------------------------------------


class Runs:
    """Pickles to a call, as an attacker would write it."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Builds:
    """Pickles to an object with a state that is set."""

    def __init__(self):
        self.x = 1


def calls(trace):
    return {
        "system": (os.system, f"touch {trace}"),
        "eval": (eval, f"open({trace!r}, 'w')"),
        "exec": (exec, f"open({trace!r}, 'w')"),
        "open": (open, trace, "w"),
        "subprocess": (subprocess.check_call, ["touch", trace]),
        "import": (builtins.__import__, "os"),
        "getattr": (getattr, os, "system"),
        "torch.load": (torch.load, trace),
        "numpy.load": (np.load, trace),
        "fromfile": (np.fromfile, trace),
        "memmap": (np.memmap, trace, "u1", "w+", 0, (8,)),
        "bytearray": (bytearray, 10**12),
        "list": (list, range(10)),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", calls("x"))
def test_a_call_is_refused_and_nothing_runs(tmp_path, name, protocol):
    trace = str(tmp_path / "it-ran")
    if name == "getattr":
        payload = b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR."
    else:
        payload = pickle.dumps({"a": [Runs(*calls(trace)[name])]}, protocol=protocol)
    path = stored(tmp_path, payload)
    with pytest.raises(UnsafePickleError, match=rf"^{path}: refused: .*; nothing was run$"):
        read_plain_pickle(path)
    assert not os.path.exists(trace)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_are_refused(tmp_path, protocol):
    for value in (Builds(), [len], torch.ones(2), np.array([Runs(print, "x")], dtype=object)):
        with pytest.raises(UnsafePickleError, match="refused"):
            read_plain_pickle(stored(tmp_path, {"a": value}, protocol))


CRAFTED = {
    "a class alone": b"cnumpy\ndtype\n.",
    "a class in a list": b"]cnumpy\ndtype\na.",
    "a class as a key": b"}cnumpy\ndtype\nK\x01s.",
    "a class as a state": b"cnumpy\ndtype\n}b.",
    "an instance": b"(ios\nsystem\n.",
    "an instance of ours": b"(inumpy\ndtype\n.",
    "an object": b"(cos\nsystem\nS'x'\no.",
    "a persistent name": b"Psomewhere\n.",
    "a persistent object": b"K\x01Q.",
    "an extension": b"\x82\x01.",
    "keywords": b"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93)}\x92.",
    "a mark in a tuple": b"(K\x01\x86.",
    "a mark remembered": b"(q\x00]h\x00a.",
    "a buffer": b"\x80\x05\x97.",
    "stack global of numbers": b"\x80\x04K\x01K\x02\x93.",
    "a dtype of objects": b"cnumpy\ndtype\nS'O'\n\x85R.",
    "a dtype of fields": b"cnumpy\ndtype\nS'i4,i4'\n\x85R.",
    "an array of objects": (b"cnumpy.core.multiarray\n_reconstruct\n(ccopy\ncopy\ntR."),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_pickles_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"data\.pkl: ") as caught:
        read_plain_pickle(stored(tmp_path, CRAFTED[name]))
    assert "\n" not in str(caught.value)


DAMAGED = {
    "empty": b"",
    "text": b"hello, this is no pickle",
    "no stop": b"]",
    "nothing on the stack": b".",
    "pop of nothing": b"0.",
    "tuple of nothing": b"\x86.",
    "no mark": b"t.",
    "append to a number": b"K\x01K\x02a.",
    "item for a list": b"]K\x01K\x02s.",
    "half an item": b"}(K\x01u.",
    "memo of nothing": b"h\x05.",
    "memo far away": b"j\xff\xff\xff\xff.",
    "a number of letters": b"Iabc\n.",
    "a float of letters": b"Fabc\n.",
    "a string without quotes": b"Sabc\n.",
    "text that is none": b"X\x02\x00\x00\x00\xff\xff.",
    "a list as a key": b"}]K\x01s.",
    "itself": b"]q\x00h\x00a.",
    "in a circle": b"]q\x00]q\x01h\x00ah\x01a.",
    "an integer of a kilobyte": b"\x8b\x00\x04\x00\x00" + bytes(1024) + b".",
    "a key nested deep": b"}((K\x01ttK\x01s.",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_pickles_end_in_one_line(tmp_path, name):
    with pytest.raises(ValueError, match=r"data\.pkl: not a readable pickle \(.+\)$") as caught:
        read_plain_pickle(stored(tmp_path, DAMAGED[name]))
    assert "\n" not in str(caught.value)


@contextlib.contextmanager
def one_line(path):
    """Whatever is raised begins with the path and has no line end."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        assert message.startswith(str(path)) and "\n" not in message
        raise


@given(data=st.binary(max_size=60))
@settings(max_examples=300)
def test_any_bytes_end_in_a_value_or_in_one_line(tmp_path_factory, data):
    path = stored(tmp_path_factory.mktemp("b", numbered=True), b"\x80\x04" + data + b".")
    with contextlib.suppress(ValueError), one_line(path):
        read_plain_pickle(path)


@given(at=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
@settings(max_examples=200)
def test_any_changed_byte_ends_in_a_value_or_in_one_line(tmp_path_factory, at, value, cut):
    table = {
        f"{v:03d}": {f"{f:04d}": [(0.1 * f, np.float64(0.2))] for f in range(4)} for v in range(3)
    }
    data = bytearray(pickle.dumps(table, protocol=4))
    data[at % len(data)] = value
    path = stored(
        tmp_path_factory.mktemp("c", numbered=True), bytes(data[: at % len(data)] if cut else data)
    )
    with contextlib.suppress(ValueError), one_line(path):
        read_plain_pickle(path)


def test_the_size_of_a_file_is_bounded(tmp_path):
    with pytest.raises(ValueError, match=r"data\.pkl: .*wanted at most 100"):
        read_plain_pickle(stored(tmp_path, list(range(1000))), max_bytes=100)
    with pytest.raises(FileNotFoundError, match=r"none\.pkl: no such file"):
        read_plain_pickle(tmp_path / "none.pkl")


# --- bombs: refused before anything large is reserved --------------------------------------------

HUGE = (2**63 - 1).to_bytes(8, "little")
BOMBS = {
    "bytes of 8 exabytes": b"\x80\x04\x8e" + HUGE + b".",
    "text of 8 exabytes": b"\x80\x04\x8d" + HUGE + b".",
    "bytearray of 8 exabytes": b"\x80\x05\x96" + HUGE + b".",
    "bytes of 4 gigabytes": b"\x80\x03B\xff\xff\xff\xff.",
    "bytes of 100 gigabytes": b"\x80\x04\x8e" + (10**11).to_bytes(8, "little") + b".",
    "a frame of 8 exabytes": b"\x80\x04\x95" + HUGE + b"].",
    "an integer of 2 gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "a memo of 4 billion": b"]r\xff\xff\xff\xff.",
    "a memo of 4 billion, as text": b"]p4294967295\n.",
    "deep lists": b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep tuples": b")" + b"\x85" * 300_000 + b".",
    "deep tuples as a key": b"})" + b"\x85" * 300_000 + b"K\x01s.",
    "deep tuples in a set": b"\x80\x04\x8f()" + b"\x85" * 300_000 + b"\x90.",
    "tuples of tuples, twice each": b"K\x01" + b"2\x86" * 5000 + b".",
    "laughs": b"]q\x00" + b"".join(
        b"]" + b"q" + bytes([k]) + (b"h" + bytes([k - 1]) + b"a") * 10 for k in range(1, 90)
    ) + b".",
    "an array of a terabyte": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + bytes(8) + b"tb."
    ),
}  # fmt: skip
BOUNDED = """
import resource, sys
import sal360.safe_pickle as safe
read = getattr(safe, sys.argv[1])
base = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = base + 400 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[2:]:
    try:
        read(path)
        print("read")
    except ValueError as error:
        print("refused", str(error).count(chr(10)))
"""


def bounded(reader, paths):
    """What becomes of files in a process that may take 400 MB more than it has."""
    command = [sys.executable, "-c", BOUNDED, reader, *map(str, paths)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr[-500:]
    return run.stdout.split("\n")[:-1]


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_bombs_are_refused_in_little_memory(tmp_path):
    assert resource.RLIMIT_AS
    paths = []
    for k, data in enumerate(BOMBS.values()):
        paths.append(tmp_path / f"{k}.pkl")
        paths[-1].write_bytes(data)
    told = dict(zip(BOMBS, bounded("read_plain_pickle", paths), strict=True))
    assert set(told.values()) == {"refused 0"}, told


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_bombs_in_checkpoints_are_refused_in_little_memory(tmp_path):
    """The same in a ``.pth``, and tensors that are larger than what the file holds."""

    def tensor(size, stride, count=4):
        names = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
        storage = (
            b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
            b"X\x03\x00\x00\x00cpuK" + bytes([count]) + b"tQK\x00"
        )
        dims = b"J" + size.to_bytes(4, "little") + b"J" + size.to_bytes(4, "little") + b"\x86"
        steps = b"K" + bytes([stride]) + b"K" + bytes([stride]) + b"\x86"
        return names + storage + dims + steps + b"\x89}tRs."

    cases = {name: (data, {}) for name, data in BOMBS.items() if name != "an array of a terabyte"}
    cases["a tensor that repeats one number"] = (tensor(10**5, 0), {"0": bytes(16)})
    cases["a tensor beyond its storage"] = (tensor(10**5, 1), {"0": bytes(16)})
    paths = []
    for k, (data, extra) in enumerate(cases.values()):
        paths.append(tmp_path / f"{k}.pth")
        with zipfile.ZipFile(paths[-1], "w") as z:
            z.writestr("archive/data.pkl", data)
            for name, raw in extra.items():
                z.writestr(f"archive/data/{name}", raw)
    zeros = tmp_path / "zeros.pth"  # a storage that is small in the file only because it is packed
    count = 2**27
    text = (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
        b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ"
        + count.to_bytes(4, "little") + b"tQK\x00J" + count.to_bytes(4, "little")
        + b"\x85K\x01\x85\x89}tRs."
    )  # fmt: skip
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        z.writestr("archive/data.pkl", text)
        with z.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(bytes(count * 4 // 64))
    told = bounded("read_torch_tensors", [*paths, zeros])
    assert set(told) == {"refused 0"}, dict(zip([*cases, "zeros"], told, strict=True))


def test_a_good_checkpoint_still_passes_the_check(tmp_path):
    state = OrderedDict((f"layer.{k}.weight", torch.randn(3, 4)) for k in range(300))
    torch.save(state, tmp_path / "s.pth")
    again = read_torch_tensors(tmp_path / "s.pth")
    assert all(torch.equal(again[k], v) for k, v in state.items())
    tied = torch.randn(5)
    torch.save({"a": tied, "b": tied, "c": tied[1:]}, tmp_path / "t.pth")
    again = read_torch_tensors(tmp_path / "t.pth")
    assert torch.equal(again["a"], again["b"]) and torch.equal(again["c"], tied[1:])


@given(value=plain, protocol=st.sampled_from(list(PROTOCOLS)))
@settings(max_examples=60)
def test_the_check_agrees_with_pythons_own_list_of_instructions(value, protocol):
    """It walks over every instruction that Python writes; the slow reference is ``pickletools``."""
    data = pickle.dumps([value, value, np.arange(3)], protocol=protocol)
    check_pickle(data)
    ends = [at for op, _, at in pickletools.genops(data) if op.name == "STOP"]
    assert ends == [len(data) - 1]
    for k in {0, len(data) // 3, len(data) - 1}:
        with pytest.raises(ValueError, match=r"cut short|beyond the end|unknown|memo|invalid"):
            check_pickle(data[:k])


def passes(data, limit):
    try:
        check_pickle(data, limit)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "data",
    [b"\x8f" * 10_000, b"]" * 50_000, b"}" * 50_000, b"]" + b"\x94" * 50_000, b"K\x01" * 50_000,
     b"C\xff" + bytes(255) + b"2" * 50_000, b"(" + b"h\x00" * 50_000 + b"l"],
)  # fmt: skip
def test_objects_are_counted_before_one_is_made(data):
    """By an estimate that no real object exceeds: what is built takes less than was counted."""
    check_pickle(data + b".")
    low, high = 0, 2**30  # the least limit under which it passes is the estimate
    while high - low > 1000:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(data + b".", middle) else (middle, high)
    tracemalloc.start()
    try:
        machine = Machine(b"]q\x00" + data + b".", {}, max_memory=2**40)
        before = tracemalloc.get_traced_memory()[0]
        machine.run()
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < high + 20_000


# --- arrays --------------------------------------------------------------------------------------


def npy(shape="(2,)", descr="'<f4'", data=bytes(8), version=1, header=None, length=None):
    text = header or f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"
    size = len(text) if length is None else length
    width = 2 if version == 1 else 4
    return (
        b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(width, "little") + text.encode() + data
    )


@given(
    dtype=st.sampled_from(["<f4", ">f8", "<i2", "|u1", "|b1", "<f2", "<u8"]),
    shape=st.lists(st.integers(0, 4), max_size=4).map(tuple),
    fortran=st.booleans(),
)
def test_arrays_of_numbers_come_back(tmp_path_factory, dtype, shape, fortran):
    values = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    values = np.asfortranarray(values) if fortran else values
    folder = tmp_path_factory.mktemp("a", numbered=True)
    np.save(folder / "a.npy", values)
    np.savez(folder / "a.npz", one=values, two=values)
    np.savez_compressed(folder / "b.npz", one=values)
    for again in (
        read_npy(folder / "a.npy"),
        read_npz(folder / "a.npz")["two"],
        read_npz(folder / "b.npz")["one"],
    ):
        assert np.array_equal(again, values) and again.dtype == values.dtype
        assert again.flags.writeable


BAD_ARRAYS = {
    "a shape of terabytes": npy("(1000000, 1000000)"),
    "a shape of more than all": npy("(99999999999999999999, 99999999999999999999)"),
    "a shape of 5000 digits": npy(f"({'9' * 5000},)"),
    "a negative shape": npy("(-1,)"),
    "cut short": npy(data=bytes(7)),
    "too long": npy(data=bytes(9)),
    "objects": npy(descr="'|O'", data=pickle.dumps([Runs(os.system, "touch it-ran")])),
    "fields": npy(descr="[('a', '<f4')]"),
    "text": npy(descr="'<U4'"),
    "complex": npy(descr="'<c8'"),
    "an unknown type": npy(descr="'<z9'"),
    "a header that is code": npy(header="__import__('os').system('touch it-ran')\n"),
    "a header that computes": npy("(2**30,)"),
    "a header nested deep": npy(header="(" * 20000 + "\n", version=2),
    "a header that is long": npy(version=2, length=2**32 - 1),
    "a header of many digits": npy(header="{'descr': '<f4', 'fortran_order': False, 'shape': ("
                                   + "1 , " * 10000 + "X), }"),
    "version 9": npy(version=9),
    "no array": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "empty": b"",
    "a magic alone": b"\x93NUMPY\x01\x00",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_arrays_end_in_one_line_and_nothing_runs(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.npy"
    path.write_bytes(BAD_ARRAYS[name])
    with pytest.raises(ValueError, match=r"^.*a\.npy: .+$") as caught:
        read_npy(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as z:
        z.writestr("good.npy", npy())
        z.writestr("bad.npy", BAD_ARRAYS[name])
    with pytest.raises(ValueError, match=r"a\.npz: member 'bad': ") as caught:
        read_npz(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "it-ran").exists()


def test_archives_are_bounded_and_damage_is_told(tmp_path):
    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, a=np.zeros(2**20), b=np.zeros(2**20))
    assert path.stat().st_size < 50_000
    with pytest.raises(ValueError, match=r"zeros\.npz: unpacks to more than 1000000 bytes"):
        read_npz(path, max_bytes=10**6)
    np.save(tmp_path / "a.npy", np.zeros(10))
    with pytest.raises(ValueError, match=r"a\.npy: 80 bytes, wanted at most 10"):
        read_npy(tmp_path / "a.npy", max_bytes=10)
    data = path.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"PK" + bytes(100)):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"zeros\.npz: ") as caught:
            read_npz(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no\.npz: no such file"):
        read_npz(tmp_path / "no.npz")


# --- hostile files in every place where a data set is read ---------------------------------------


def hostile_npy(trace):
    out = io.BytesIO()
    np.save(out, np.array([Runs(os.system, f"touch {trace}")], dtype=object), allow_pickle=True)
    return out.getvalue()


def read_first(root, settings):
    data = open_dataset(root, **settings)
    data.read(data.videos[0])


@pytest.mark.parametrize(
    ("layout", "path", "settings"),
    [
        ("sphere360", "vinfo.pkl", {}),
        ("sphere360", "001/0001_gt.npy", {"truth": "published"}),
        ("sphere360", "001/0001.jpg", {}),
        ("wild360", "Wild360_GT_29/synthetic001_1.mp4/00001.npy", {}),
        ("wild360", "data/test/synthetic001_1.mp4", {}),
        ("wild360", "test.txt", {}),
        ("vr-eyetracking", "saliency_maps/001/0004.png", {}),
        ("vr-eyetracking", "optical_flow/001/001_0004.png", {}),
        ("salient360", "HE/Scanpaths/L/1_Synthetic_fixations.csv", {}),
        ("salient360", "HE/SalMaps/1_Synthetic_64x32x8_32b.bin", {"truth": "published"}),
        ("avtrack360", "Head_rotation/2.json", {}),
        ("avtrack360", "SRC_info/1.json", {}),
    ],
)
@pytest.mark.parametrize("kind", ["pickle", "npy", "pth"])
def test_hostile_files_are_refused_wherever_a_data_set_is_read(
    tmp_path, layout, path, settings, kind
):
    root, trace = copied(layout, tmp_path), tmp_path / "it-ran"
    call = Runs(os.system, f"touch {trace}")
    if kind == "pth":
        with zipfile.ZipFile(root / path, "w") as z:
            z.writestr("archive/data.pkl", pickle.dumps(call, protocol=2))
    else:
        data = pickle.dumps(call) if kind == "pickle" else hostile_npy(trace)
        (root / path).write_bytes(data)
    assert path in verify(root).paths("broken", "missing")
    with pytest.raises(ValueError, match=r".+") as caught:
        read_first(root, settings)
    assert str(caught.value).startswith(str(root)) and "\n" not in str(caught.value)
    assert not trace.exists()
