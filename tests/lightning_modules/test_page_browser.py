"""Pages in a real browser: drawn, turned, hovered over, stepped through."""

import itertools

import numpy as np
import pytest
import torch

from lightning_modules.page import PageEntry, write_page
from ops.drawing import part_colours
from ops.hand_model import open_hand
from ops.hand_model.layer import HandLayer
from tests.browser import browser, reason_to_skip

pytest.importorskip("selenium", reason="selenium drives the browser; pip install -c constraints.txt -e '.[dev]'")
from selenium.webdriver import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.keys import Keys

SKIP = reason_to_skip()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(SKIP is not None, reason=str(SKIP))]
HOSTILE = "<img src=x onerror=\"document.title='broken'\"></script>.png"
STEPS = 4


@pytest.fixture(scope="module")
def window():
    with browser(420, 800) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A hand that closes in four iterations, with another overlay in each, and a skeleton of the same."""
    model = open_hand()
    pose = torch.randn(1, 45, generator=torch.Generator().manual_seed(0)) / 3 * torch.linspace(0, 1, STEPS)[:, None]
    turned, away = torch.tensor([[2.2, 0.4, 0.3]]), torch.tensor([[0.02, 0.03, 0.5]])
    hand = HandLayer(model)(pose, torch.zeros(STEPS, 10), turned.expand(STEPS, 3), away.expand(STEPS, 3))
    picture = np.full((60, 80, 3), 90, np.uint8)
    overlays = np.stack([np.full_like(picture, (0, 60 * step, 200)) for step in range(STEPS)])
    joints, vertices = hand.joints.numpy(), hand.vertices.numpy()
    colours = part_colours()[model.part_labels + 1][:, ::-1]
    facts = {"camera": "475, 475, 320, 240"}
    path = tmp_path_factory.mktemp("page") / "page.html"
    entries = [
        PageEntry(HOSTILE, picture, overlays, joints, vertices, model.faces, colours, facts),
        PageEntry("bones.png", picture, picture, joints[-1], facts=facts),
    ]
    write_page(path, entries, "Two hands")
    return path


@pytest.fixture
def opened(window, page):
    window.open(page)
    return window


def different(first, second):
    """Share of pixels that differ visibly."""
    return float((np.abs(first.astype(int) - second.astype(int)).max(-1) > 30).mean())


def drawn(picture):
    """Share of pixels that are not the background, the corner's colour."""
    return different(picture, np.broadcast_to(picture[5, 5], picture.shape))


PLOT = ".card .plot"


def hovered(window):
    return window.run("return document.querySelector('.card .plot .hovertext')?.textContent ?? ''")


def eye(window):
    return window.run("return document.querySelector('.plot').layout.scene.camera.eye")


def drag(window, right, down):
    """Until the hand has turned: plotly takes the place of the pointer once a frame, and may miss it."""
    before = eye(window)

    def turned():
        held = ActionChains(window.driver).move_to_element(window.find(PLOT)).click_and_hold()
        held.move_by_offset(right, down).pause(0.5).release().perform()
        return abs(eye(window)["x"] - before["x"]) > 0.1

    window.wait(turned, "a hand that turns")


def test_the_page_loads_in_peace_and_shows_the_hand_in_the_colours_and_names_of_its_parts(opened):
    assert opened.errors() == [] and opened.requests() == []
    assert opened.driver.title == "Two hands"
    assert opened.find("h2").text == HOSTILE
    assert opened.run("return document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out

    picture = opened.settled(PLOT)
    assert 0.05 < drawn(picture) < 0.7
    blue, green, red = (picture[..., channel].astype(int) for channel in range(3))
    for stronger, weaker in ((red, blue), (green, red), (blue, red)):  # thumb and index, middle, ring
        assert (stronger - weaker > 40).mean() > 0.002

    place, offsets = opened.find(PLOT), itertools.cycle(range(0, 60, 6))  # the hand lies around the middle

    def named():
        ActionChains(opened.driver).move_to_element_with_offset(place, next(offsets), 0).pause(0.3).perform()
        return hovered(opened)

    opened.wait(named, "the name of a joint")
    assert hovered(opened).startswith(("wrist", "thumb", "index", "middle", "ring", "little"))


def test_a_drag_turns_the_hand_the_slider_leaves_it_so_and_a_wheel_brings_it_nearer(opened):
    before = opened.settled(PLOT)
    drag(opened, 80, 20)
    last, turned = opened.settled(PLOT), eye(opened)
    assert different(before, last) > 0.05

    overlay, slider = opened.find(".overlay").get_attribute("src"), opened.find(".steps input")
    assert opened.find("output").text == "3 of 3"
    slider.send_keys(Keys.HOME)
    assert opened.find("output").text == "0 of 3"
    assert opened.find(".overlay").get_attribute("src") != overlay
    opened.wait(lambda: different(last, opened.picture(PLOT)) > 0.01, "another hand")
    assert eye(opened) == pytest.approx(turned)
    slider.send_keys(Keys.END)
    opened.wait(lambda: different(last, opened.picture(PLOT)) < 0.002, "the hand that was there")
    assert opened.find(".overlay").get_attribute("src") == overlay

    def larger():
        ActionChains(opened.driver).scroll_from_origin(ScrollOrigin.from_element(opened.find(PLOT)), 0, -200).perform()
        return drawn(opened.settled(PLOT)) > 1.15 * drawn(last)

    opened.wait(larger, "a larger hand")
    assert opened.errors() == []


def test_overlay_mesh_and_joints_come_and_go_and_so_do_figures_out_of_sight(opened):
    stack, mesh = opened.settled(".stack"), drawn(opened.settled(PLOT))
    opened.find(".show-overlay").click()
    opened.wait(lambda: different(stack, opened.picture(".stack")) > 0.9, "the plain picture")
    opened.find(".choice input[value=joints]").click()
    opened.wait(lambda: 0.002 < drawn(opened.picture(PLOT)) < 0.5 * mesh, "bones alone")
    opened.find(".choice input[value=both]").click()
    opened.wait(lambda: drawn(opened.picture(PLOT)) > 0.9 * mesh, "bones and mesh")

    second = ".card:nth-child(2) .plot"  # has no mesh
    opened.run("document.querySelector(arguments[0]).scrollIntoView()", second)
    opened.wait(lambda: opened.run("return Boolean(document.querySelector(arguments[0]).data)", second), "bones")
    opened.wait(lambda: 0.002 < drawn(opened.picture(second)) < 0.3, "bones of the second")
    opened.run("document.querySelector('.cards').style.marginBottom = '3000px'; scrollTo(0, 1e6)")
    opened.wait(lambda: not opened.run("return document.querySelectorAll('.plot canvas').length"), "no plot left")
    assert opened.errors() == []
