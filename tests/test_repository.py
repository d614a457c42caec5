"""The house: one address, one lock, light imports, arrows that point down, clean notebooks."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sal360 import nn
from sal360.models import MODELS, NETWORKS
from tests import address

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb"))
MODULES = sorted((ROOT / "sal360").rglob("*.py"))


def test_the_public_address_is_one_setting():
    assert address.wrong() == []
    slug = address.address().removeprefix("https://github.com/")
    for path in CHAPTERS:
        text = path.read_text("utf-8")
        assert f"colab.research.google.com/github/{slug}/blob/main/book/{path.name}" in text
        assert f"git+https://github.com/{slug}" in text
    assert slug in (ROOT / "README.md").read_text("utf-8")
    assert f"url: https://github.com/{slug}" in (ROOT / "_config.yml").read_text("utf-8")


def test_another_address_would_be_found(tmp_path, monkeypatch):
    (tmp_path / "book").mkdir()
    (tmp_path / "pyproject.toml").write_text(
        '[project.urls]\nRepository = "https://github.com/them/sal360"\n'
    )
    (tmp_path / "README.md").write_text("see https://github.com/sal360/sal360 and (git+https://"
                                        "github.com/sal360/sal360)\n")  # fmt: skip
    monkeypatch.setattr(address, "ROOT", tmp_path)
    assert len(address.wrong()) == 2
    address.write()
    assert address.wrong() == []
    assert "github.com/them/sal360" in (tmp_path / "README.md").read_text()


def test_the_lock_pins_every_dependency():
    lines = (ROOT / "constraints.txt").read_text("utf-8").split()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    assert all("==" in line and "@" not in line and "+" not in line for line in lines)
    extras = PYPROJECT["project"]["optional-dependencies"]
    wanted = PYPROJECT["project"]["dependencies"] + [r for e in extras.values() for r in e]
    for requirement in wanted:
        name = re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")
        assert name in pinned, name
        assert "==" not in requirement, "ranges here, pins in the lock"


def test_conda_users_get_the_same():
    text = (ROOT / "environment.yml").read_text("utf-8")
    assert "-c constraints.txt" in text and "-e .[book,test,dev]" in text
    low, high = re.search(r"python>=(3\.\d+),<(3\.\d+)", text).groups()
    assert PYPROJECT["project"]["requires-python"] == f">={low},<{high}"


def loaded_by(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in run.stdout.split()}


HEAVY = {"plotly", "av", "pooch", "cv2", "matplotlib", "IPython", "safetensors"}


@pytest.mark.parametrize(
    "statement",
    [
        "import sal360",
        "import sal360.sphere, sal360.projections",
        "import sal360.models, sal360.inference, sal360.video, sal360.viewer, sal360.metrics",
        "import sal360.nn, sal360.upstream, sal360.experiments",
        "import sal360.cli",
    ],
)
def test_imports_are_light(statement):
    assert not loaded_by(statement) & HEAVY


def test_importing_the_package_loads_nothing_at_all():
    assert not loaded_by("import sal360") & {"torch", "numpy"}


def imports_of(path):
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sal360"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("sal360"))


def test_arrows_point_down():
    """The ground floor knows nothing above it, and nothing below the book draws or teaches."""
    ground = {
        "_check",
        "_files",
        "_shares",
        "_tables",
        "_version",
        "sphere",
        "resampling",
        "resampling_cuda",
        "cubemap",
        "projections",
        "patterns",
    }
    for path in MODULES:
        room = path.relative_to(ROOT / "sal360").parts[0].removesuffix(".py")
        for name in imports_of(path):
            target = name.split(".")[1] if "." in name else ""
            if room in ground:
                assert target in ground, f"{path.name} imports {name}"
            if room == "nn":
                assert target in ground | {"nn"}, f"{path.name} imports {name}"
            if target in ("figures", "course"):
                assert room in ("figures", "course", "cli"), f"{path.name} imports {name}"
            if target == "experiments":
                # A leaderboard chooses the weights that are bundled.
                rooms = ("experiments", "figures", "course", "cli")
                assert room in rooms or path.name == "bundle.py", f"{path.name} imports {name}"
            if target == "upstream":
                # An experiment may measure what was published.
                rooms = ("models", "upstream", "course", "experiments")
                assert room in rooms, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.name)
def test_a_notebook_is_committed_without_outputs(path):
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code" and "keep_output" not in cell["metadata"].get("tags", []):
            assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.name)
def test_a_notebook_reads_well_raw(path):
    """No directives, no wide code, no cell that hides an error, links that lead somewhere."""
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert max(map(len, source.splitlines())) <= 74, source
            assert "except" not in source and "raises-exception" not in str(cell["metadata"])
            # Its value is a generator at an address, which the page would show.
            assert not source.splitlines()[-1].startswith("torch.manual_seed")
        else:
            assert not re.search(
                r"^\s*(```\{|:{3,}\s*\{)|\{(cite|ref|numref|eq|doc)\}", source, re.M
            )
            for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", source):
                assert (path.parent / link).exists(), link


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.name)
def test_a_notebook_draws_the_same_numbers_every_time(path):
    """torch starts each process with another seed: who draws from it must set it before."""
    drawing = {"rand", "randn", "rand_like", "randn_like", "randint", "randperm", "multinomial"}
    seeded = False
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        source = re.sub(r"^(\s*)%.*", r"\1pass", "".join(cell["source"]), flags=re.M)
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).removeprefix("torch.")
            seeded |= name == "manual_seed"
            if name in drawing and "generator" not in {k.arg for k in node.keywords}:
                assert seeded, ast.unparse(node)


def test_the_line_under_a_title_comes_from_the_record():
    from benchmarks.chapter_times import RECORD, line

    times = json.loads(RECORD.read_text("utf-8"))
    for path in CHAPTERS:
        title = "".join(json.loads(path.read_text("utf-8"))["cells"][0]["source"])
        assert f"<!-- time -->{line(path.name[:2], times)}\n" in title


def test_the_readmes_claim_about_memory_is_the_benchmarks():
    record = json.loads((ROOT / "data/benchmarks/allocator.json").read_text("utf-8"))
    ratio = record["results"]["times"]["glibc's default"]["ratio"]
    assert 1 - 1 / ratio > 1 / 3  # "over a third of its time"


def test_nothing_of_a_machine_or_of_the_cache_is_committed():
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False
    ).stdout.split()
    assert not [n for n in names if n.endswith((".pth", ".mp4", ".jpg"))]


def test_the_readmes_examples_run(tmp_path, monkeypatch):
    """All but the lines that need official weights, a film or a network of the reader's own."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text("utf-8")
    scope: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        if "official" not in block:
            lines = [line for line in block.splitlines() if "your_" not in line]
            exec("\n".join(lines), scope)
    assert scope["net"](scope["image"]).shape == (1, 1, 256, 512)
    assert len(scope["curve"]) == 5 and scope["saliency"].shape == scope["frames"][:, 0].shape


def test_the_readme_says_which_torch():
    text, ranges = (ROOT / "README.md").read_text("utf-8"), PYPROJECT["project"]["dependencies"]
    least = next(one.removeprefix("torch>=") for one in ranges if one.startswith("torch"))
    lock = re.search(r"^torch==(\d+\.\d+)", (ROOT / "constraints.txt").read_text("utf-8"), re.M)[1]
    assert f"has PyTorch {lock}; as a package, sal360 takes {least} and later" in text
    tables = (ROOT / "sal360/_tables.py").read_text("utf-8")
    cut = re.search(r"before ([\d.]+) `torch.compile` cuts", text)[1]
    assert f'HELD = torch.__version__ >= "{cut}"' in tables


def test_the_first_page_and_the_readme_name_the_systems_that_there_are():
    first, readme = ((ROOT / name).read_text("utf-8") for name in ("book/intro.md", "README.md"))
    tables = [text[text.index("## The five systems") :] for text in (first, readme)]
    named = [re.findall(r"^\| ([A-Z][\w -]+?)(?: \(.*?\))? \|", text, re.M) for text in tables]
    assert named[0] == named[1] and len(named[0]) == 5
    # What both say of weights: each network has ours, and SST-Sal alone official ones.
    assert "Official weights can be had of SST-Sal only" in first
    cards = {name: MODELS[name] for name in NETWORKS}
    assert {name for name in cards if cards[name].official} == {"sst-sal", "sst-sal-noflow"}
    ours = json.loads((ROOT / "sal360/models/bundled/index.json").read_text("utf-8"))
    assert set(ours["models"]) == set(cards)


def test_every_public_function_has_a_docstring():
    for path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        assert ast.get_docstring(tree) or path.name == "_version.py", path
        for node in tree.body:
            named = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if named and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.name}: {node.name}"


def test_the_chapter_that_a_layer_points_to_has_it():
    found = 0
    for name in nn.__all__:
        told = re.findall(r"(?:Chapter|Used in chapter) (\d\d)\.", getattr(nn, name).__doc__ or "")
        for number in told:
            (page,) = (path for path in CHAPTERS if path.name.startswith(number))
            assert re.search(rf"\b{name}\b", page.read_text("utf-8")), (name, number)
        found += len(told)
    assert found > 5


def test_doctests():
    import doctest
    import importlib

    tried = 0
    for path in MODULES:
        text = path.read_text("utf-8")
        if ">>>" in text:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            module = importlib.import_module(name.removesuffix(".__init__"))
            result = doctest.testmod(module)
            assert result.failed == 0, name
            tried += result.attempted
    assert tried > 0


def test_the_benchmarks_page_is_what_the_records_say():
    from benchmarks import page

    assert page.PAGE.read_text("utf-8") == page.text(), "python -m benchmarks page"
    assert "Not run yet" not in page.text()


def test_the_projections_meet_what_the_plan_asks_of_them():
    """Accuracy is computed again by the tests; the speeds are the record's, one thread."""
    record = json.loads((ROOT / "data/benchmarks/projections.json").read_text("utf-8"))
    ours = record["results"]["accuracy"]["largest error"]["sal360"]
    assert ours["ERP to cube"] < 1e-4 and ours["cube to ERP, edges and corners"] < 3e-4
    times = record["results"]["speed"]["times"]
    assert times["panorama to 6 x 512"]["sal360"]["ratio"] <= 1.7
    assert times["6 x 512 to panorama"]["sal360"]["ratio"] <= 1.7
    assert times["viewport 480 x 640"]["sal360, same camera"]["ratio"] <= 4


def test_the_layers_meet_what_the_plan_asks_of_them():
    """Ratios to an ordinary convolution, from the record, which holds one and two threads."""
    results = json.loads((ROOT / "data/benchmarks/layers.json").read_text("utf-8"))["results"]
    limits = {
        ("tangent 3 x 3, 8 x 64", "SphereConv2d"): 2.3,
        ("crown 4 x 8, radius pi/32", "CrownConv2d"): 10,
        ("crown 8 x 16, whole sphere", "CrownConv2d"): 15,
    }
    for (case, layer), most in limits.items():
        name = next(n for n in results["speed"] if n.startswith(case))
        for times in results["speed"][name].values():
            assert times[layer]["ratio"] <= most, (name, layer)
    unet = results["unet"]
    ours = unet["kept_mb"] + unet["largest_layer_mb"] + unet["tables_mb"]
    assert ours < unet["published_kept_mb"] / 10


def test_the_layers_record_has_what_the_benchmark_asks_for():
    """Or a name on the page would stand for another layer."""
    from benchmarks.layers import CASES, PLANAR

    results = json.loads((ROOT / "data/benchmarks/layers.json").read_text("utf-8"))["results"]
    for case, asked in CASES.items():
        for rows in (*results["speed"][case].values(), results["memory"][case]):
            assert list(rows) == [PLANAR, *asked["layers"]], case


def test_padding_a_cube_costs_less_than_twice_what_zeros_cost():
    """The compiled way, alone; before a convolution it is a small part, re-projecting as well."""
    results = json.loads((ROOT / "data/benchmarks/cube_pad.json").read_text("utf-8"))["results"]
    assert results["compiled"]
    for threads in ("1 thread", "2 threads"):
        for shape, times in results[threads].items():
            copied, read = (times[f"CubePad2d, {mode}"]["ratio"] for mode in ("copy", "reproject"))
            assert copied <= 2 and copied < read, (threads, shape)
    whole = results["with a 3 x 3 convolution, 1 thread"]
    assert max(whole[mode]["ratio"] for mode in ("copy", "reproject")) < 1.2


def test_the_docstrings_claims_about_reading_are_the_records():
    """What ``PatternConv2d`` says of bilinear and bicubic reads, and the plan of tilts."""
    path = ROOT / "data/benchmarks/equivariance.json"
    layers = json.loads(path.read_text("utf-8"))["results"]["layers"]
    bilinear, bicubic = (layers[name]["tilt"] for name in ("SphereConv2d", "SphereConv2d, bicubic"))
    assert all(0.035 < t < 0.05 for t in bilinear)
    assert all(t < b / 40 for t, b in zip(bicubic, bilinear, strict=True))
    assert all(t > 1 for t in layers["published tangent"]["tilt"])
    bilinear, bicubic = (layers[name]["tilt"] for name in ("RingConv2d, bilinear", "RingConv2d"))
    assert round(max(bilinear), 2) == 0.06 and round(max(bicubic), 4) == 0.0008
    ours = ("SphereConv2d", "CrownConv2d", "RingConv2d", "SphereMaxPool2d", "SphereAvgPool2d")
    for name in ours:
        assert layers[name]["yaw"] == 0 and layers[name]["constant"] < 1e-9, name
        assert max(layers[name]["tilt"]) <= 0.05, name
