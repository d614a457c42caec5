"""The command line: ``sal360 predict | train | evaluate | overlay | view | data | info``.

Bad input ends with one line on standard error and exit status 2, Ctrl-C with 130. Nothing is
written beside the input.
"""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

import click

from sal360._runtime import no_memory
from sal360._version import __version__

# Heavy imports stand inside the commands, so that --help answers at once.


class _Fps(click.ParamType):
    name = "number|source"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if value == "source":
            return float("inf")
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not number > 0:
            self.fail(f"{value!r}: wanted a positive number or 'source'", param, ctx)
        return number


class _Range(click.FloatRange):
    """NaN is in no range."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r}: wanted a number", param, ctx)
        return number


class _Place(click.Path):
    """A path to write to; not an empty text, which is what a variable that is not set gives."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(path_type=Path, **settings)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "":
            self.fail("an empty text, wanted a path", param, ctx)
        return super().convert(value, param, ctx)


class _Size(click.ParamType):
    name = "HxW"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        try:
            height, width = (int(part) for part in value.lower().split("x"))
        except ValueError:
            self.fail(f"{value!r}: wanted height x width, such as 240x480", param, ctx)
        if height < 1 or width < 1:
            self.fail(f"{value!r}: wanted at least 1x1", param, ctx)
        from sal360.inference import MAX_PIXELS, MAX_SIDE

        if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
            wanted = f"at most {MAX_PIXELS} pixels, {MAX_SIDE} on a side"
            self.fail(f"{value!r}: wanted {wanted}", param, ctx)
        return height, width


_STEREO = click.option(
    "--stereo",
    type=click.Choice(["auto", "mono", "tb", "sbs"]),
    default="auto",
    show_default=True,
    help="How two eyes share the frame: tb on top of each other, sbs side by side. auto reads the "
    "file's metadata, else compares the halves and says what it took.",
)
_COLORMAP = click.option(
    "--colormap",
    type=click.Choice(["inferno", "viridis", "cividis"]),
    default="inferno",
    show_default=True,
    help="Colours of the overlay; all safe for colour-blind eyes.",
)
_OPACITY = click.option(
    "--opacity", type=_Range(0, 1), default=0.7, show_default=True, help="At the peak."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sal360")
def cli() -> None:
    """Predict where viewers look in 360-degree video.

    \b
    sal360 predict clip.mp4            saliency of every sampled frame, and an overlay video
    sal360 view predictions/clip       look around in it, in a browser
    sal360 evaluate predictions truth  score it against where people looked
    sal360 train sst-sal               train a network, on synthetic worlds unless told otherwise
    sal360 info                        what is installed here, and which models there are

    Panoramas are equirectangular: the full sphere, longitude across, latitude up.
    """


@cli.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", default="sst-sal-noflow", show_default=True, help="See `sal360 info`.")
@click.option(
    "--weights",
    default=None,
    help="'official' (downloaded once, checked by hash), 'bundled' (trained by this package on "
    "synthetic worlds; see `sal360 info MODEL`), or a .pth or .safetensors file. [default: "
    "official where there are any, else bundled]",
)
@_STEREO
@click.option(
    "--fps",
    type=_Fps(),
    default=None,
    help="Predictions per second. The default is the rate the model was trained at (8 for "
    "SST-Sal: one frame in round(source/8)); 'source' predicts every frame. Of a folder of "
    "frames: the rate at which they were taken.",
)
@click.option("--start", type=_Range(0), default=0.0, help="First second to predict.")
@click.option("--seconds", type=_Range(0, min_open=True), help="Length to predict.")
@click.option("--device", default=None, help="cpu, cuda, cuda:1, mps. [default: cuda if present]")
@click.option(
    "--out",
    type=_Place(file_okay=False),
    default=Path("predictions"),
    show_default=True,
    help="Folder that gets one folder per input.",
)
@click.option("--size", type=_Size(), default="240x480", show_default=True, help="Size of a map.")
@click.option(
    "--prior",
    metavar="NAME|FILE",
    help="Multiply each map with what is known without the film: equator, equator-front, or a "
    "mean-map's .safetensors file. For cameras that hang straight; equator-front also takes the "
    "film's middle for its front. (Chapter 17 measures what it gives.)",
)
@click.option(
    "--prior-power",
    type=_Range(0),
    help="How far the film is trusted beside the prior; 0: not at all. [default: 0.5]",
)
@click.option("--overlay/--no-overlay", "with_overlay", default=True, help="Write overlay.mp4.")
@click.option("--force", is_flag=True, help="Write over an earlier prediction.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted prediction stopped.")
def predict(
    inputs: tuple[Path, ...],
    model: str,
    weights: str | None,
    out: Path,
    device: str | None,
    prior: str | None,
    prior_power: float | None,
    **settings: Any,
) -> None:
    """Saliency of each VIDEO, IMAGE or FOLDER of frames.

    \b
    Writes, per input, OUT/NAME/
      maps/000012.npz   density (H, W) per steradian, frame number, time in seconds
      png/000012.png    the same as 8-bit grey, 255 at the frame's maximum
      overlay.mp4       the video with its saliency laid over it (overlay.jpg for an image)
      record.json       what was run, with which settings, and how fast

    \b
    sal360 predict clip.mp4
    sal360 predict clip.mp4 --model sst-sal --stereo tb --start 10 --seconds 5
    sal360 predict clip.mp4 --prior equator-front
    sal360 predict frames/ --fps 8 --out results --no-overlay

    Ctrl-C keeps the maps that are finished; --resume goes on from there, to the same numbers.
    """
    from sal360._runtime import tune_allocator
    from sal360.inference import predict_video, refuse_taken
    from sal360.models import MODELS, load_model
    from sal360.models.shipped import weights_path
    from sal360.results import PredictionFolder
    from sal360.sources import expand, open_source

    if settings["force"] and settings["resume"]:
        raise click.UsageError("--force and --resume exclude each other")
    if model not in MODELS:
        raise click.UsageError(f"--model {model}: wanted one of {', '.join(MODELS)}")
    paths = expand(list(inputs))
    sources = [open_source(path, settings["stereo"], settings["fps"]) for path in paths]
    tune_allocator()
    if weights is None and not MODELS[model].is_baseline:
        weights = "official" if MODELS[model].official else "bundled"
        if weights == "bundled" and weights_path(model) is None:
            wanted = "wanted --weights FILE: untrained it would answer noise"
            raise click.UsageError(f"--model {model}: has no weights yet, {wanted}")
    if weights is None and model == "mean-map":
        raise click.UsageError(
            f"--model {model}: wanted --weights FILE with the mean of other videos"
        )
    targets = [out / name for name in _names(paths)]
    for target in targets:  # before the first of them takes an hour
        refuse_taken(PredictionFolder(target), settings["force"], settings["resume"])
    if prior_power is not None and prior is None:
        raise click.UsageError("--prior-power: not used without --prior")
    if prior is not None:
        settings["prior"] = _prior(prior)
        settings |= {} if prior_power is None else {"prior_power": prior_power}
    network = load_model(model, weights, device=_device(device))
    for path, source, target in zip(paths, sources, targets, strict=True):
        _say(_described(source, settings, network))
        try:
            record = predict_video(path, network, target, progress=True, **settings)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            kept = f"finished maps are in {target}; --resume goes on from there"
            _say(f"interrupted: {kept if target.exists() else 'no map was finished yet'}")
            raise click.exceptions.Exit(130) from None
        maps = "1 map" if record["maps"] == 1 else f"{record['maps']} maps"
        _say(f"{target}: {maps}, {record['frames_per_s']:.2f} frames/s")


@cli.command()
@click.argument("predictions", type=click.Path(path_type=Path))
@click.argument("truth", type=click.Path(path_type=Path))
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Other predictions of the same videos: scores of both, and their paired difference.",
)
@click.option(
    "--metrics",
    help="Names from the list above, separated by commas. [default: cc,sim,kld and, where TRUTH "
    "has fixations, nss,auc_judd,information_gain]",
)
@click.option(
    "--weighting",
    type=click.Choice(["sphere", "pixels"]),
    default="sphere",
    show_default=True,
    help="Pixels count by the solid angle they cover; or all alike, to compare with papers.",
)
@click.option(
    "--baseline",
    type=click.Choice(["uniform", "equator", "equator-front"]),
    default="uniform",
    show_default=True,
    help="What information_gain is over.",
)
@click.option(
    "--eps",
    type=_Range(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of a prediction's mass that is spread evenly before kld and information_gain: both "
    "are infinite where a prediction is exactly 0 and people looked.",
)
@click.option("--resize", "size", type=_Size(), help="Bring both to HxW; else sizes must agree.")
@click.option(
    "--values",
    type=click.Choice(["auto", "density", "shares"]),
    default="auto",
    show_default=True,
    help="What a predicted value means: a density per solid angle, up to scale; or a pixel's share "
    "of the mass, as in maps divided by their sum. auto takes a density and refuses maps that "
    "look like shares.",
)
@click.option(
    "--truth-values",
    type=click.Choice(["auto", "density", "shares"]),
    default="auto",
    show_default=True,
    help="The same for TRUTH.",
)
@click.option(
    "--by",
    type=click.Choice(["auto", "number", "position"]),
    default="auto",
    show_default=True,
    help="Frames belong together by the numbers in their names, or the first with the first. auto: "
    "by number, unless one side only counts (stacks, films, predictions of a folder of frames).",
)
@click.option("--part", is_flag=True, help="Score the videos and frames that both have.")
@click.option(
    "--hold", is_flag=True, help="One map of a video (a picture's) is for all its frames."
)
@click.option("--layout", help="Layout of a data set as TRUTH. [default: the one it looks like]")
@click.option("--split", help="Of that data set: train, validation or test, if it has them.")
@click.option(
    "--level",
    type=_Range(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of bootstrap and draws.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "csv", "json"]),
    help="Markdown to read, CSV or JSON with every frame. [default: by the name of --out, else md]",
)
@click.option("--out", type=_Place(), help="A file. [default: standard output]")
@click.option("--force", is_flag=True, help="Write over an existing --out.")
def evaluate(
    predictions: Path,
    truth: Path,
    against: Path | None,
    form: str | None,
    out: Path | None,
    force: bool,
    **settings: Any,
) -> None:
    """Score PREDICTIONS against TRUTH.

    \b
    Either can be
      clip.npz, clip.npy     a map (H, W), or a stack (T, H, W); in .npz under the name density
      0012.png, 0012.jpg     a grey map, 8 or 16 bits
      clip.mp4               a grey map per frame
      clip/                  one video: a map per frame, with the frame's number in its name
      all/                   many videos: such folders, or films and stacks, named like the videos
    PREDICTIONS also: a folder that `sal360 predict` wrote, or the folder of several such folders.
    TRUTH also: a data set in any layout that `sal360 data verify` knows, with its fixations; and
    .npz files may hold fixations, (N, 2) lon, lat in radians, beside their density.

    \b
    Metric            better  needs
      cc                higher  map        correlation
      sim               higher  map        shared mass
      kld               lower   map        divergence of truth from prediction, nats
      emd               lower   map        earth mover's distance, radians; slow
      nss               higher  fixations  z-score where people looked
      auc_judd          higher  fixations  order of values, exact with ties (auc_borji: the same)
      sauc              higher  fixations  order, against fixations on the other videos
      information_gain  higher  fixations  bits per fixation more than --baseline

    Frames are scored one by one and averaged within each video; videos count alike. A frame
    without truth or fixations is left out and counted. Intervals are over videos (bootstrap;
    Student's for fewer than 6; none for one): frames of a video are no independent trials. The
    difference to --against is paired by video, with a sign-flip permutation test.

    What does not belong together is refused by its name: other videos, other frames (predictions
    of one frame in so many are fine), other sizes, a density whose mass is not 1, a truth given as
    a prediction. Nothing is written but --out.

    \b
    sal360 evaluate predictions/clip truth/clip
    sal360 evaluate predictions data/Wild360 --split test --against baseline --out scores.json
    sal360 evaluate maps/ gt/ --metrics cc,sim --weighting pixels --format csv > scores.csv

    Exit status: 0 scored, 2 something was refused (one line says what), 130 interrupted.
    """
    from tqdm import tqdm

    from sal360._runtime import tune_allocator
    from sal360.evaluation.command import SUFFIXES, check_out, evaluate_paths, write

    if out is not None:
        check_out(out, [p for p in (predictions, truth, against) if p is not None], force)
        form = form or SUFFIXES.get(out.suffix.lower())
    tune_allocator()
    with tqdm(unit=" frames", desc="scored", disable=None, leave=False) as bar:

        def progress(video: str, done: int, total: int) -> None:
            bar.set_postfix_str(f"{video}: {done} of {total}", refresh=False)
            bar.update(done - getattr(bar, "in_video", 0))
            bar.in_video = done % total

        text, notes = evaluate_paths(
            predictions, truth, against, format=form or "md", progress=progress, **settings
        )
    if out is None:
        click.echo(text, nl=False)
    else:
        write(text, out)
        _say(f"{out}: written")
    if out is not None or form == "csv":  # the other tables hold them
        for note in notes:
            _say(f"note: {note}")


@cli.command()
@click.argument("recipe", required=False)
@click.option(
    "--data",
    metavar="SPEC",
    help="What to train on. [default: synthetic worlds, as many as the scale asks for]",
)
@click.option(
    "--validation",
    metavar="SPEC",
    help="What to score on while training; 'none' for nothing. [default: other synthetic worlds]",
)
@click.option(
    "--scale",
    type=click.Choice(["fast", "cpu", "gpu"]),
    help="A test's minute, a laptop's evening, a graphics card's night. [default: $SAL360_SCALE, "
    "or gpu where there is one, or cpu]",
)
@click.option("--steps", type=click.IntRange(1), help="[default: the recipe's]")
@click.option("--seed", type=click.IntRange(0), help="[default: the recipe's, 0]")
@click.option(
    "--validate-every",
    type=click.IntRange(0),
    metavar="N",
    help="Steps from one validation to the next, 0 for one at the end. [default: the recipe's, or "
    "an eighth of the steps]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another value for a setting of the recipe; as often as you like.",
)
@click.option(
    "--recipe-file",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="A recipe of your own, in place of RECIPE; one to begin with comes from --print-recipe.",
)
@click.option(
    "--print-recipe",
    is_flag=True,
    help="Print the recipe, --set and all, as a file for --recipe-file, and train nothing.",
)
@click.option(
    "--out",
    type=_Place(file_okay=False),
    help="Folder of the run. [default: runs/RECIPE-SCALE-sSEED]",
)
@click.option("--resume", is_flag=True, help="Go on with the run in OUT, if there is one.")
@click.option("--force", is_flag=True, help="Begin anew over the run in OUT.")
@click.option(
    "--checkpoint-every", type=click.IntRange(1), metavar="N", default=100, show_default=True,
    help="Steps from one checkpoint to the next.",
)  # fmt: skip
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    help="Processes that read clips; they change nothing but the time. [default: none for little "
    "data, which stays in memory, else one for each core but one]",
)
@click.option("--device", help="cpu, cuda, cuda:1. [default: cuda if present]")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="A clip that cannot be read stops the run, or is left out and named in the record.",
)
@click.option(
    "--mix",
    type=click.IntRange(1),
    metavar="N",
    help="Videos whose clips are drawn at a time: for films that memory cannot all hold, a small N "
    "decodes each once and not for every clip. Another N is another order. [default: all]",
)
@click.option(
    "--exact/--no-exact",
    default=True,
    show_default=True,
    help="On CUDA: kernels that give the same bits each time, which costs some speed.",
)
@click.option("--tensorboard", is_flag=True, help="Write OUT/tensorboard, too.")
def train(recipe: str | None, out: Path | None, **settings: Any) -> None:
    """Train a network by RECIPE: spherical-unet, lookup-unet, cube-unet, cp360, sst-sal, ...

    \b
    Writes into OUT
      best.safetensors        the weights that scored best, for --weights of `sal360 predict`
      last.safetensors        those of the last step
      record.json             what was run, on what, how it went, scores of every video
      table.md, curve.png     the scores beside baselines that need no training; the curves
      checkpoint.safetensors  what --resume goes on from

    \b
    SPEC is one of
      worlds                  synthetic worlds, drawn when they are read: nothing is downloaded
      worlds:train:48:10      a split (train, val, test), how many, of how many seconds
      packed=worlds:...       the same, drawn once into the cache; a GPU would wait for the others
      avtrack360              real heads, fetched when needed (of each film there is one picture)
      FOLDER, FOLDER:test     a data set that `sal360 data verify` knows; and a split of it
      SPEC@8                  any of them at 8 frames a second

    Optical flow that a network or a loss needs and a data set lacks is computed from its frames,
    kept in the cache, and named in the record.

    \b
    sal360 train sst-sal --scale fast
    sal360 train cube-unet --data films/VRET:train --validation films/VRET:test --out vret
    sal360 train sst-sal --set lr=0.01 --set model.hidden=12 --set precision=bf16 --seed 1
    sal360 train sst-sal --scale cpu --print-recipe > mine.toml
    sal360 train --recipe-file mine.toml --scale cpu --steps 500 --tensorboard
    torchrun --nproc-per-node 2 -m sal360 train sst-sal

    precision is fp32, bf16 or fp16. On a GPU, fp32 lets plain convolutions use TF32, as torch
    does; NVIDIA_TF32_OVERRIDE=0 in the environment forbids it. record.json says which (tf32).

    The same recipe, data, seed, device and number of threads give the same bytes. On several
    processes batch counts the clips of all: the first step is that of one process to rounding,
    which Adam then enlarges, so the weights at last are others. Ctrl-C and SIGTERM stop after the
    step that is being made and keep everything; after `kill -9` or a power cut the last checkpoint
    is there. --resume goes on from it to the weights that a run without a break would have had.
    Settings that --set knows: the recipe's, in record.json.

    \b
    Exit status: 0 trained, 1 the run cannot go on (a loss that is not finite, no memory, a lost
    process), 2 something was refused or cannot be written, 130 Ctrl-C, 143 SIGTERM. One line says
    what.
    """
    from sal360._runtime import tune_allocator
    from sal360.training.command import run_training

    if settings["force"] and settings["resume"]:
        raise click.UsageError("--force and --resume exclude each other")
    if settings["device"] is not None and os.environ.get("WORLD_SIZE", "1") == "1":
        settings["device"] = _device(settings["device"])
    tune_allocator()
    status = run_training(recipe, out, **settings, say=_say, show=click.echo)
    if status:
        raise click.exceptions.Exit(status)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=_Place(), help="[default: FOLDER/overlay.mp4]")
@_OPACITY
@_COLORMAP
@click.option("--force", is_flag=True, help="Write over an existing file.")
def overlay(folder: Path, out: Path | None, force: bool, **look: Any) -> None:
    """Draw the overlay of a prediction FOLDER again, with another look."""
    from sal360 import rendering

    source, predictions = _prediction(folder)
    out = out or folder / ("overlay.jpg" if source.kind == "image" else "overlay.mp4")
    _free(out, force, source.path, *source.pictures, predictions.record_path)
    rendering.overlay(source, predictions, out, progress=True, **look)
    _say(f"{out}: written")


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--out", type=_Place(), help="[default: NAME.html]")
@_STEREO
@_OPACITY
@click.option(
    "--seconds",
    type=_Range(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Length of a video to put into the page.",
)
@click.option("--force", is_flag=True, help="Write over an existing file.")
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
def view(
    path: Path,
    out: Path | None,
    stereo: str,
    opacity: float,
    seconds: float,
    force: bool,
    show: bool,
) -> None:
    """Look around in a VIDEO, an IMAGE or a prediction FOLDER.

    Writes one HTML file that holds the picture and the viewer, and needs no network.
    """
    from sal360 import rendering
    from sal360.sources import open_source
    from sal360.viewer import view as make

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    out = out or Path(f"{path.resolve().stem}.html")
    if not out.resolve().parent.is_dir():
        raise FileNotFoundError(f"--out {out}: no such folder")
    with tempfile.TemporaryDirectory() as scratch:
        if path.is_dir() and (path / "record.json").is_file():
            source, predictions = _prediction(path)
            if stereo not in ("auto", source.stereo.layout):
                told = f"{path} was predicted as {source.stereo.layout}"
                raise click.UsageError(f"--stereo {stereo}: {told}")
            _free(out, force, source.path, *source.pictures, predictions.record_path)
            pair = Path(scratch) / ("pair.jpg" if source.kind == "image" else "pair.mp4")
            rendering.stacked(source, predictions, pair, seconds)
            lon, lat = _peak(predictions)
            page = make(
                pair, stacked=True, opacity=opacity, lon=lon, lat=lat, caption=_shown(source.path)
            )
        else:
            source = open_source(path, stereo)
            _free(out, force, path, *source.pictures)
            _say(f"{path}: {source.stereo.layout} ({source.stereo.reason})")
            film = Path(scratch) / ("film.jpg" if source.kind == "image" else "film.mp4")
            rendering.plain(source, film, seconds)
            page = make(film, caption=_shown(path))
        page.save(out)
    _say(f"{out}: written, {out.stat().st_size / 1e6:.1f} MB")
    if show:
        click.launch(str(out.resolve()))


@cli.group()
def data() -> None:
    """Data sets: fetch those that can be had, check those on disk, make synthetic ones.

    \b
    sal360 data list                       what can be downloaded, its licence, what to cite
    sal360 data download avtrack360        fetch it, checked by hashes
    sal360 data verify PATH                what is missing or broken in a data set, file by file
    sal360 data make --layout wild360 OUT  a small synthetic data set in a real layout
    """


@data.command("list")
@click.option("--files", is_flag=True, help="Every file by its name.")
def data_list(files: bool) -> None:
    """What can be downloaded, how much of it is here, its licence and what to cite."""
    from sal360.datasets import download

    folder = download.cache_folder()
    click.echo(f"cache: {folder}")
    known = download.registry()
    for name in dict.fromkeys(path.partition("/")[0] for path in known):
        paths = [path for path in known if path.startswith(f"{name}/")]
        here = [path for path in paths if (folder / path).is_file()]
        size = sum((folder / path).stat().st_size for path in here) / 1e6
        click.echo(
            f"\n{name}: {len(here)} of {len(paths)} files here" + f", {size:.1f} MB" * bool(here)
        )
        _credits(paths)
        for path in paths if files else ():
            click.echo(f"  {'here' if path in here else '-':5}{path}")


@data.command("download")
@click.argument("names", nargs=-1, required=True)
def data_download(names: tuple[str, ...]) -> None:
    """Fetch files by NAME or by the start of their names (``samples``, ``avtrack360/images``).

    Licence and citation are shown first. Each file is checked by its hash; what is here already
    is not fetched again, and a download that was broken off goes on where it stopped.
    """
    from sal360.datasets import download

    known = download.registry()

    def meant(name: str) -> list[str]:
        return [p for p in known if p == name or p.startswith(name.rstrip("/") + "/")]

    for name in names:
        if not meant(name):
            raise ValueError(f"{name}: not in the registry (sal360 data list)")
        here = sum((download.cache_folder() / path).is_file() for path in meant(name))
        click.echo(f"{name}: {len(meant(name))} files, {here} here already", err=True)
        _credits(meant(name), err=True)
    for path in dict.fromkeys(path for name in names for path in meant(name)):
        click.echo(download.fetch(path, progress=True))


_LAYOUT_HELP = "sphere360, wild360, vr-eyetracking, salient360 or avtrack360."


@data.command("make")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--layout", required=True, help=_LAYOUT_HELP)
@click.option("--videos", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--seconds",
    type=_Range(0, min_open=True),
    default=2.0,
    show_default=True,
    help="Length of each, at 8 frames a second.",
)
@click.option("--size", type=_Size(), default="64x128", show_default=True, help="Of a frame.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of pictures and gaze."
)
def data_make(out: Path, layout: str, **settings: Any) -> None:
    """Write a small synthetic data set, in the files and names of a real one, into OUT.

    OUT must not exist, or be empty. It appears when it is complete; Ctrl-C leaves nothing. A
    README in it says that it is synthetic.

    \b
    sal360 data make --layout sphere360 toy --videos 4 --seconds 3 --size 128x256
    """
    from sal360.datasets.layouts.make import make

    folder = make(layout, out, progress=lambda name: _say(f"video {name}"), **settings)
    _say(f"{folder}: written")


@data.command("verify")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--layout", help=f"{_LAYOUT_HELP} [default: the one PATH looks like]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def data_verify(path: Path, layout: str | None, as_json: bool) -> None:
    """Open every file of the data set in PATH, and say what is missing or broken.

    Pictures and films are decoded, maps and tables read, and all of them held against each other.
    Nothing is written.

    \b
    One line per finding: missing, broken and inconsistent files cannot be used;
    surplus files are not read; notes are only worth knowing.
    Exit status: 0 all of it can be used, 1 something is missing, broken or inconsistent,
    2 PATH is no data set that can be looked at.
    """
    from tqdm import tqdm

    from sal360.datasets.layouts.verify import verify

    with tqdm(unit=" files", desc="opened", disable=None, leave=False) as bar:
        report = verify(path, layout, progress=lambda _: bar.update() and None)
    if as_json:
        click.echo(report.json())
    else:
        click.echo(f"layout {report.layout}: {report.reason}")
        for finding in report.findings:
            line = f"{finding.kind:14}{finding.path}: {finding.message}"
            click.echo("".join(c if c.isprintable() else "?" for c in line))
        click.echo(report.summary())
    if not report.usable:
        raise click.exceptions.Exit(1)


def _credits(paths: list[str], err: bool = False) -> None:
    """Licences and citations of files of the registry, each once."""
    from sal360.datasets import download

    known = download.registry()
    for credit, licence in dict.fromkeys((download.credit(p), known[p].licence) for p in paths):
        click.echo(f"  {credit.title}", err=err)
        click.echo(f"    licence: {licence}", err=err)
        click.echo(f"    cite: {credit.citation}", err=err)


@cli.command()
@click.argument("what", required=False, metavar="[models|MODEL]")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def info(what: str | None, as_json: bool) -> None:
    """Versions, device, cache and models; or what one should know about a model.

    \b
    sal360 info              what is installed here
    sal360 info models       which models there are, how large, with which weights
    sal360 info cube-unet    its card: inputs, parameters, operations, source, licence, limits
    """
    import torch

    from sal360.datasets import download
    from sal360.models import MODELS

    folder = download.cache_folder()
    if what is not None:
        _models_info(what, as_json, folder)
        return
    cuda = torch.cuda.is_available()
    report = {
        "sal360": __version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "packages": {
            name: _version(name)
            for name in ("torch", "numpy", "opencv-python-headless", "av", "plotly", "jupyter-book")
        },
        "device": torch.cuda.get_device_name(0) if cuda else f"cpu, {os.cpu_count()} cores",
        "cache": str(folder),
        "models": {
            n: {"summary": c.summary, "weights": _weights(c, folder), "limits": c.limits}
            for n, c in MODELS.items()
        },
    }
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return
    for key in ("sal360", "python", "device", "cache"):
        click.echo(f"{key:12}{report[key]}")
    for name, version in report["packages"].items():  # type: ignore[attr-defined]
        click.echo(f"  {name:26}{version}")
    click.echo("models")
    for name, card in MODELS.items():
        click.echo(f"  {name:18}{card.summary} [{_weights(card, folder)}]")


def _models_info(what: str, as_json: bool, folder: Path) -> None:
    """All models as a table, or the card of one."""
    from sal360.models import MODELS

    if what != "models" and what not in MODELS:
        raise click.UsageError(f"{what}: wanted models or one of {', '.join(MODELS)}")
    if what == "models":
        table = {
            name: {
                "parameters": 0 if card.is_baseline else card.parameters(),
                "weights": _weights(card, folder),
                "summary": card.summary,
            }
            for name, card in MODELS.items()
        }
        if as_json:
            click.echo(json.dumps(table, indent=1))
            return
        click.echo(f"{'model':18}{'parameters':>12}  weights")
        for name, row in table.items():
            click.echo(f"{name:18}{row['parameters']:12,d}  {row['weights']}")
            click.echo(click.wrap_text(str(row["summary"]), 98, "    ", "    "))
        return
    card = MODELS[what]
    facts = card.facts()
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    click.echo(f"{card.name}: {card.summary}")
    told = {key: facts[key] for key in ("inputs", "conventions")}
    if not card.is_baseline:
        sizes = ", ".join(f"{n:,d} ({size})" for size, n in facts["sizes"].items())
        told["parameters"] = f"{sizes}; {card.default_size} unless asked for"
        told["cost"] = f"{facts['flops'] / 1e9:.2f} GFLOP per frame at its input size"
    told["weights"] = _weights(card, folder)
    told |= {key: facts[key] for key in ("recipe", "source", "data", "licence", "limits")}
    for key, fact in told.items():
        if fact:
            click.echo(click.wrap_text(str(fact), 98, f"  {key:13}", " " * 15))
    if facts.get("bundled"):
        from sal360.models.shipped import card_lines

        click.echo("  its bundled weights")
        for key, fact in card_lines(facts["bundled"]).items():
            click.echo(click.wrap_text(fact, 98, f"    {key:13}", " " * 17))


def _weights(card: Any, folder: Path) -> str:
    """What weights of a model there are, and whether they are here."""
    from sal360.models.shipped import weights_path

    if card.is_baseline:
        return "none needed"
    found = ["bundled"] if weights_path(card.name) else []
    if card.official is not None:
        here = (folder / card.official).is_file()
        found.insert(0, "official, here" if here else "official, to download")
    return "; ".join(found) or "none yet"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is returned, for the console script to pass on."""
    warnings.showwarning = lambda message, *_: _say(f"warning: {message}")
    if sys.stderr is None:  # it was closed: progress has nowhere to go
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        with _ended_by_signals():
            return cli.main(arguments, prog_name="sal360", standalone_mode=False) or 0
    except SystemExit as error:
        if error.code == 1:  # click's, only for this: who read us has seen enough, and left
            return 0
        if error.code == 143:
            _say("ended by SIGTERM")
        raise
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        _say(" ".join(error.format_message().split()))
        return 2
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, MemoryError, RuntimeError) as error:
        if os.environ.get("SAL360_DEBUG"):
            raise
        if isinstance(error, (MemoryError, RuntimeError)):
            if not no_memory(error):
                raise
            _say(f"not enough memory ({' '.join(str(error).split())[:120]})")
            return 2
        _say(" ".join(_message(error).split()))
        return 2


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _say(line: str) -> None:
    with suppress(BrokenPipeError):  # nobody listens; the work goes on
        click.echo(f"sal360: {line}", err=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends as an exception does, and as Ctrl-C: what is half written is removed.

    While something is imported both wait: libraries that import others in C forget an exception
    that comes then, and go on with a module that lacks half of itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        if _importing(frame):
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        elif number == signal.SIGTERM:
            sys.exit(143)
        else:
            raise KeyboardInterrupt

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, end)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us
        before[signal.SIGINT] = signal.signal(signal.SIGINT, end)  # does not want it heard
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    """Whether a command imports something (and not whether a script that calls us is imported)."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _device(name: str | None) -> str:
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    from sal360._check import usable_device

    try:
        return usable_device(name, "--device")
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _names(paths: list[Path]) -> list[str]:
    """A folder name per input: its stem, numbered where two inputs share one."""
    names: list[str] = []
    for path in paths:
        stem = path.resolve().stem
        name, k = stem, 2
        while name in names:
            name, k = f"{stem}-{k}", k + 1
        names.append(name)
    return names


def _prior(name: str) -> Any:
    """One that needs no weights by its name, a mean map by its file."""
    from sal360.models import load_model

    if name in ("equator", "equator-front"):
        return load_model(name)
    if not Path(name).is_file():
        wanted = "equator, equator-front or a mean-map's file"
        raise click.UsageError(f"--prior {name}: wanted {wanted}")
    return load_model("mean-map", name)


def _described(source: Any, settings: dict[str, Any], model: Any) -> str:
    fps = settings["fps"] or model.rate
    if source.kind == "image":
        what = "one picture"
    elif source.kind == "folder":
        what = f"{source.total} pictures, taken as {source.fps:g} frames/s"
    else:
        step = 1 if fps is None or fps == float("inf") else max(1, round(source.fps / fps))
        every = "every frame" if step == 1 else f"one frame in {step}"
        what = f"{source.fps:.2f} frames/s, predicting {every} ({source.fps / step:.2f} per s)"
    height, width = source.size
    note = ""
    if source.stereo.layout == "mono" and not 1.8 < width / height < 2.2:
        note = f"; {width} x {height} is not 2:1, taken as the whole sphere all the same"
    return f"{source.path}: {what}; {source.stereo.layout} ({source.stereo.reason}){note}"


def _prediction(path: Path) -> tuple[Any, Any]:
    """A prediction folder and the source it was made from, as its record tells."""
    from sal360.results import PredictionFolder
    from sal360.sources import open_source

    folder = PredictionFolder(path)
    made_from = folder.read_record(whole=True)["source"]
    rate = made_from["fps"] if made_from["kind"] == "folder" else None
    return open_source(made_from["path"], made_from["stereo"], rate), folder


def _peak(predictions: Any) -> tuple[float, float]:
    """Longitude and latitude (degrees) of the maximum of the mean map: where to look first."""
    known = predictions.frames()
    density = sum(predictions.read_map(k)[0] for k in known[:: 1 + len(known) // 50])
    row, col = divmod(int(density.argmax()), density.shape[1])
    return ((col + 0.5) / density.shape[1] - 0.5) * 360, (
        0.5 - (row + 0.5) / density.shape[0]
    ) * 180


def _free(out: Path, force: bool, *read: Path) -> None:
    """Whether a file may be written: not over what is read for it, and not over another unasked."""
    if out.is_dir():
        raise IsADirectoryError(f"{out}: a folder, wanted a file")
    if any(out.exists() and path.exists() and out.samefile(path) for path in read):
        raise ValueError(f"{out}: is read for this, wanted another file to write")
    if out.exists() and not force:
        raise FileExistsError(f"{out}: exists; --force writes over it")


def _shown(path: Path) -> str:
    """A file's name as text, whatever bytes it has."""
    return path.name.encode("utf-8", "replace").decode()


if __name__ == "__main__":
    sys.exit(main())
