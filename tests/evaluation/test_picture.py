from xml.etree import ElementTree

from tadkit.evaluation import analysis_svg, diagnose
from tadkit.records import Annotation, Detection

SVG = "{http://www.w3.org/2000/svg}"


def picture(found, *, title="dets.json"):
    truth = {"v": [Annotation(0, 10, "x"), Annotation(20, 100, "x")]}
    diagnosis = diagnose(truth, found, durations_s={"v": 100.0}, labels=None, tiou=[0.3, 0.7])
    return analysis_svg(diagnosis, title=title)


def test_the_picture_is_svg_that_tells_every_error_and_threshold():
    root = ElementTree.fromstring(picture({"v": [Detection(0, 10, "x", 0.9), Detection(50, 55, "x", 0.8)]}))
    words = [element.text or "" for element in root.iter(f"{SVG}text")]
    for name in ("double detection", "wrong label", "localisation", "confusion", "background", "10G"):
        assert name in words
    assert any("tIoU 0.3" in text for text in words)
    assert any("tIoU 0.7" in text for text in words)


def test_bars_stay_inside_the_picture_and_have_a_height():
    root = ElementTree.fromstring(picture({"v": [Detection(0, 10, "x", 0.9), Detection(50, 55, "x", 0.95)]}))
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.get("x")]
    assert bars
    assert all(float(bar.get("height")) >= -0.05 and float(bar.get("width")) > 0 for bar in bars)


def test_an_odd_title_is_no_markup():
    assert "<b>" not in picture({}, title="a<b>&c")


def test_nothing_found_can_be_drawn_and_the_bytes_are_the_same_each_time():
    assert picture({}) == picture({})
