import os
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from tadkit.errors import UsageError
from tadkit.evaluation import ERRORS, diagnose
from tadkit.evaluation.picture import analysis_figure, check_picture, draw_analysis
from tadkit.records import Annotation, Dataset, Detection, VideoRecord, write_dataset, write_detections

TRUTH = {"v": [Annotation(0, 10, "x"), Annotation(20, 100, "x"), Annotation(20, 60, "y")]}
FOUND = {
    "v": [
        Detection(0, 10, "x", 0.9),
        Detection(0, 9, "x", 0.95),
        Detection(50, 55, "x", 0.8),
        Detection(20, 95, "x", 0.6),
        Detection(20, 61, "x", 0.7),
        Detection(22, 60, "y", 0.3),
    ]
}


def diagnosed(found):
    return diagnose(TRUTH, found, durations_s={"v": 100.0}, labels=None, tiou=[0.3, 0.7])


def heights(axes):
    return np.array([[bar.get_height() for bar in bars] for bars in axes.containers])


def drawn(tmp_path, suffix, *, found=FOUND, title="dets.json"):
    path = tmp_path / f"analysis{suffix}"
    draw_analysis(path, diagnosed(found), title=title)
    return path


def texts(path):
    return [element.text for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def test_bars_are_as_high_as_the_figures_of_the_analysis():
    diagnosis = diagnosed(FOUND)
    axes = analysis_figure(diagnosis, title="t").axes
    assert len(axes) == 2 * len(diagnosis.errors) + len(diagnosis.sensitivities)
    for errors, shares, costs in zip(diagnosis.errors, axes[0::2], axes[1::2], strict=False):
        assert f"tIoU {errors.tiou:g}" in shares.get_title()
        assert f"tIoU {errors.tiou:g}" in costs.get_title()
        np.testing.assert_allclose(heights(shares), 100 * errors.shares.T)
        np.testing.assert_allclose(heights(costs), [[100 * errors.costs[name] for name in ERRORS]])
    assert any(errors.costs[name] > 0 for errors in diagnosis.errors for name in ERRORS)
    for sensitivity, one in zip(diagnosis.sensitivities, axes[4:], strict=True):
        np.testing.assert_allclose(heights(one), [[100 * (g.normalised_map or 0) for g in sensitivity.groups]])
        (line,) = one.lines
        np.testing.assert_allclose(line.get_ydata(), 100 * sensitivity.normalised_map)


def test_shares_are_stacked_to_one_hundred_per_cent():
    shares = analysis_figure(diagnosed(FOUND), title="t").axes[0]
    tops = np.array([[bar.get_y() + bar.get_height() for bar in bars] for bars in shares.containers])
    np.testing.assert_allclose(tops[-1], 100)
    np.testing.assert_allclose([[bar.get_y() for bar in bars] for bars in shares.containers[1:]], tops[:-1])


def test_every_error_is_in_the_legend_in_the_colour_of_its_bars():
    figure = analysis_figure(diagnosed(FOUND), title="t")
    (legend,) = figure.legends
    names = ["true positive", *ERRORS]
    assert [text.get_text() for text in legend.get_texts()] == names
    colours = [patch.get_facecolor() for patch in legend.get_patches()]
    assert len(set(colours)) == len(names)
    assert [bars[0].get_facecolor() for bars in figure.axes[0].containers] == colours
    assert [bar.get_facecolor() for bar in figure.axes[1].containers[0]] == colours[1:]


@pytest.mark.parametrize(
    ("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG\r\n\x1a\n"), (".pdf", b"%PDF-"), (".PNG", b"\x89PNG")]
)
def test_the_suffix_selects_the_format(suffix, start, tmp_path):
    assert drawn(tmp_path, suffix).read_bytes().startswith(start)


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"a\.jpg: unknown picture format; .* ends in \.svg, \.pdf, \.png"):
        draw_analysis(tmp_path / "a.jpg", diagnosed(FOUND), title="t")
    with pytest.raises(UsageError, match="unknown picture format"):
        check_picture(tmp_path / "svg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("title", ["a<b>&c", "$x_1$.json", r"C:\dets_\frac", "動画.json"])
def test_a_title_is_drawn_literally(title, tmp_path, recwarn):
    assert title in texts(drawn(tmp_path, ".svg", title=title))
    assert not recwarn.list


def test_no_detections_can_be_drawn(tmp_path):
    assert "background" in texts(drawn(tmp_path, ".svg", found={}))


@pytest.fixture
def files(tmp_path):
    write_dataset(tmp_path / "truth.json", Dataset({"v": VideoRecord("v", 100.0, "", tuple(TRUTH["v"]))}))
    write_detections(tmp_path / "dets.json", FOUND, external={})
    return tmp_path / "dets.json", tmp_path / "truth.json"


def run(program, *words, seed="0"):
    environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", program, "evaluate", *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


MAIN = "import sys; from tadkit.cli import main; sys.exit(main())"
WITHOUT = f"import sys; sys.modules['matplotlib'] = None; {MAIN}"


@pytest.mark.parametrize(
    "suffix", [".svg", *(pytest.param(other, marks=pytest.mark.slow) for other in (".png", ".pdf"))]
)
def test_two_processes_write_the_same_bytes(suffix, files, tmp_path):
    paths = [tmp_path / f"{seed}{suffix}" for seed in "12"]
    for path in paths:
        assert run(MAIN, *files, "--picture", path, seed=path.stem).returncode == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_without_matplotlib_the_error_says_how_to_install_it(files, tmp_path):
    ran = run(WITHOUT, *files, "--picture", tmp_path / "a.png")
    assert (ran.returncode, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert line.endswith(
        "a.png: drawing needs matplotlib, which is not installed; install it with: pip install 'tadkit[plot]'"
    )
    assert not (tmp_path / "a.png").exists()


def test_without_a_picture_matplotlib_is_not_needed(files):
    ran = run(WITHOUT, *files, "--analysis")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "double detection" in ran.stdout
