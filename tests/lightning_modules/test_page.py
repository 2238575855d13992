"""Pages as files: what stands in them, without a browser (see test_page_browser.py)."""

import base64
import gzip
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lightning_modules.page import PageEntry, write_page
from ops.joints import CANONICAL_JOINTS

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&.png"


def entry(**changes):
    """A tetrahedron with 21 joints along x, half a metre away."""
    picture = np.full((30, 40, 3), 90, np.uint8)
    joints = np.stack([np.linspace(0, 0.1, 21), np.zeros(21), np.full(21, 0.5)], 1)
    vertices = np.array([[0, 0, 0.5], [0.1, 0, 0.5], [0, 0.1, 0.5], [0, 0, 0.6]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    return replace(PageEntry("a.png", picture, picture // 2, joints, vertices, faces), **changes)


class Elements(HTMLParser):
    """Tags with their attributes, and what stands in elements with an id."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.within = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.within = dict(attributes).get("id")

    def handle_data(self, data):
        self.texts[self.within] = self.texts.get(self.within, "") + data


def read(path):
    elements = Elements(path.read_text())
    return elements, json.loads(elements.texts["figures"])


def decoded(spec):
    values = np.frombuffer(base64.b64decode(spec["bdata"]), "<f4" if spec["dtype"] == "f4" else "<i4")
    return values.reshape([int(n) for n in spec["shape"].split(",")]) if "shape" in spec else values


def test_a_page_holds_the_hand_in_millimetres_and_plotlys_axes(tmp_path):
    write_page(tmp_path / "new" / "page.html", [entry()], "Title")
    _, (figure,) = read(tmp_path / "new" / "page.html")
    mesh, joints = figure["data"][2], figure["steps"][0][1]
    assert np.array_equal(decoded(mesh["j"]), [1, 2, 3, 3])
    # around the middle (50, 50, 550); z points up and y away: vertex 2 lies 100 mm below the others, vertex 3 behind
    assert np.allclose(decoded(figure["steps"][0][2]["z"]), [50, 50, -50, 50])
    assert np.allclose(decoded(figure["steps"][0][2]["y"]), [-50, -50, -50, 50])
    assert np.allclose(decoded(joints["customdata"])[20], [100, 0, 500])
    assert figure["data"][1]["text"][8] == "index tip" == CANONICAL_JOINTS[8].replace("_", " ")
    assert mesh["text"] == ["wrist", "little tip", "wrist", "wrist"]
    scene = figure["layout"]["scene"]
    assert all(scene[axis]["range"] == pytest.approx([-55, 55]) for axis in ("xaxis", "yaxis", "zaxis"))


def test_bones_run_along_each_finger_and_stop_between(tmp_path):
    write_page(tmp_path / "page.html", [entry()], "Title")
    x = decoded(read(tmp_path / "page.html")[1][0]["steps"][0][0]["x"]).reshape(5, 6)
    assert np.allclose(x[:, 0], -50) and np.isnan(x[:, 5]).all()
    assert np.allclose(x[1, 1:5], [-25, -20, -15, -10])  # joints 5 to 8, 5 mm apart


def test_a_page_is_one_file_that_asks_for_nothing(tmp_path):
    write_page(tmp_path / "page.html", [entry()], "Title")
    elements, _ = read(tmp_path / "page.html")
    policies = [a["content"] for _, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'")
    sources = [a[name] for _, a in elements.tags for name in ("src", "href") if name in a]
    assert sources and all(source.startswith("data:image/webp;base64,") for source in sources)
    library = gzip.decompress(base64.b64decode(elements.texts["plotly"])).decode()
    assert re.search(r"plotly\.js v\d", library[:200])
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_names_and_facts_are_text_whatever_stands_in_them(tmp_path):
    write_page(tmp_path / "page.html", [entry(name=HOSTILE, facts={HOSTILE: HOSTILE})], HOSTILE)
    elements, _ = read(tmp_path / "page.html")
    assert [tag for tag, _ in elements.tags].count("script") == 3
    assert not [a for _, a in elements.tags if "onerror" in a or a.get("src") == "x"]
    assert "".join(elements.texts.values()).count(HOSTILE) == 5  # title twice, name, a fact's name and its text


def test_steps_move_the_hand_and_change_pictures(tmp_path):
    joints = np.stack([entry().joints + [0.01 * t, 0, 0] for t in range(3)])
    pictures = np.stack([np.full((30, 40, 3), 40 * t, np.uint8) for t in range(3)])
    write_page(tmp_path / "a.html", [entry(joints=joints, steps_name="frame", picture=pictures)], "Title")
    elements, (figure,) = read(tmp_path / "a.html")
    assert [float(decoded(step[1]["x"])[0]) for step in figure["steps"]] == pytest.approx([-60, -50, -40])
    assert len(set(figure["layers"]["picture"])) == 3 and "overlay" not in figure["layers"]
    assert [a["max"] for tag, a in elements.tags if a.get("type") == "range"] == ["2"]
    assert "frame" in elements.texts[None]


def test_a_slider_says_the_numbers_of_its_steps(tmp_path):
    joints = np.stack([entry().joints + [0.01 * t, 0, 0] for t in range(3)])
    write_page(tmp_path / "a.html", [entry(joints=joints, numbers=(0, 2, 5)), entry(joints=joints)], "Title")
    _, figures = read(tmp_path / "a.html")
    assert [figure["numbers"] for figure in figures] == [[0, 2, 5], [0, 1, 2]]
    text = (tmp_path / "a.html").read_text()
    assert "<output>5 of 5</output>" in text and "<output>2 of 2</output>" in text


def test_pictures_alone_may_have_steps_and_hands_may_lack_a_mesh(tmp_path):
    pictures = np.zeros((2, 30, 40, 3), np.uint8)
    write_page(tmp_path / "a.html", [entry(picture=pictures, overlay=pictures, vertices=None, faces=None)], "Title")
    elements, (figure,) = read(tmp_path / "a.html")
    assert len(figure["steps"]) == 2 and len(figure["data"]) == 2
    assert not [a for _, a in elements.tags if a.get("type") == "radio"]


@pytest.mark.parametrize("count, key", [(4, "vertexcolor"), (None, "color")])
def test_the_mesh_wears_the_colours_of_its_parts(tmp_path, count, key):
    colours = count and np.arange(3 * count, dtype=np.uint8).reshape(-1, 3)
    write_page(tmp_path / "a.html", [entry(colours=colours)], "Title")
    mesh = read(tmp_path / "a.html")[1][0]["data"][2]
    assert mesh[key][1] == "rgb(3,4,5)" if count else mesh[key] == "rgb(214,178,156)"


def test_colours_of_faces_stay_flat(tmp_path):
    faces = entry().faces[:3]
    write_page(tmp_path / "a.html", [entry(faces=faces, colours=np.zeros((3, 3), np.uint8))], "Title")
    assert len(read(tmp_path / "a.html")[1][0]["data"][2]["facecolor"]) == 3


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"joints": np.zeros((20, 3))}, ValueError, r"joints of 'a.png': expected \(21, 3\).*got \(20, 3\)"),
        ({"picture": np.zeros((30, 40), np.uint8)}, ValueError, "picture of 'a.png': expected"),
        ({"overlay": np.zeros((30, 41, 3), np.uint8)}, ValueError, "overlay of 'a.png'.*draw it on a copy"),
        ({"picture": np.zeros((30, 40, 3))}, TypeError, "picture of 'a.png': expected uint8, got float64"),
        ({"faces": None}, ValueError, "give both or none"),
        ({"colours": np.zeros((5, 3), np.uint8)}, ValueError, "as many as vertices or faces.*got 5"),
        ({"joints": np.zeros((2, 21, 3)), "vertices": np.zeros((3, 4, 3))}, ValueError, r"got \[2, 3\]"),
        ({"numbers": (0, 5)}, ValueError, r"numbers of 'a.png': expected one of each of 1 steps, got \(0, 5\)"),
        ({"steps_name": "time"}, ValueError, "steps_name: expected one of"),
        ({"joints": np.full((21, 3), np.nan)}, ValueError, "joints of 'a.png': expected finite"),
    ],
)
def test_what_cannot_be_shown_is_refused_by_name(changes, error, message):
    with pytest.raises(error, match=message):
        entry(**changes)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
def test_a_page_that_cannot_be_written_is_named():
    with pytest.raises(OSError, match=r"/dev/full: the page cannot be written \(No space left"):
        write_page(Path("/dev/full"), [entry()], "Title")


def test_an_empty_page_is_refused(tmp_path):
    with pytest.raises(ValueError, match="entries: expected at least one"):
        write_page(tmp_path / "page.html", [], "Title")
