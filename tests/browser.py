"""A headless Chromium that pages are looked at and touched with; WebGL is drawn in software."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

PROGRAMS = ("chromium", "chromedriver")
INSTALL = "INSTALL_CHROMIUM"
# two processes of the tests may want to install at once
INSTALLER = ("apt-get", "-o", "DPkg::Lock::Timeout=600", "install", "-y")
WAIT = 90.0  # seconds: software drawing on busy cores


def reason_to_skip() -> str | None:
    """Why there is no browser here; installs it where root and INSTALL_CHROMIUM=1 allow that."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing and os.environ.get(INSTALL) == "1" and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run([*INSTALLER, "chromium", "chromium-driver"], check=True, capture_output=True)
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install chromium chromium-driver, or set {INSTALL}=1)"
    return None


class Browser:
    """A window; `driver` is selenium's."""

    def __init__(self, driver: object) -> None:
        self.driver = driver

    def open(self, path: Path) -> None:
        """Load a page and wait until its first figure is drawn."""
        self.driver.get(path.resolve().as_uri())
        self.wait(lambda: self.run("return Boolean(document.querySelector('.plot .main-svg, .plot canvas'))"), "a plot")

    def run(self, script: str, *arguments: object) -> object:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> object:
        """The first element of a CSS selector."""
        return self.driver.find_element("css selector", selector)

    def picture(self, selector: str) -> np.ndarray:
        """What an element looks like, (H, W, 3) BGR; it has to fit into the window."""
        self.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        return cv2.imdecode(np.frombuffer(self.find(selector).screenshot_as_png, np.uint8), cv2.IMREAD_COLOR)

    def errors(self) -> list[str]:
        """Errors of the console since the last call, refused requests among them."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """What the page fetched, beside itself and data in it."""
        urls = self.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        return [url for url in urls if not url.startswith(("data:", "blob:"))]

    def settled(self, selector: str) -> np.ndarray:
        """`picture`, once two in a row are equal."""
        seen = [self.picture(selector)]

        def still() -> bool:
            time.sleep(0.3)
            seen.append(self.picture(selector))
            return np.array_equal(seen[-1], seen[-2])

        self.wait(still, "a picture that stands still")
        return seen[-1]

    @staticmethod
    def wait(condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + WAIT
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {WAIT:.0f} s for {what}")
            time.sleep(0.1)


@contextlib.contextmanager
def browser(width: int, height: int) -> Iterator[Browser]:
    """A window of that size."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    # no sandbox: containers rarely allow one; shared memory is small there, too
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "use-angle=swiftshader", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.add_argument("--enable-unsafe-swiftshader")  # WebGL without a GPU
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
