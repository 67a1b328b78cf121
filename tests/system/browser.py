"""A real, headless browser that logs in to Airflow as a person does."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1440,900",
)
WAIT_SECONDS = 60


@contextmanager
def open_browser() -> Iterator[webdriver.Chrome]:
    """Start Chromium with an empty profile."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium or chromedriver is not installed")
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield browser
        finally:
            browser.quit()


def log_in(browser: webdriver.Chrome, *, url: str, password: str, user: str = "admin") -> None:
    """Log in to Airflow's user interface."""
    browser.get(f"{url}/")
    field = wait(browser, By.CSS_SELECTOR, "input[name=username]")
    field.send_keys(user)
    browser.find_element(By.CSS_SELECTOR, "input[name=password]").send_keys(password)
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    WebDriverWait(browser, WAIT_SECONDS).until_not(expected.url_contains("/login"))


def wait(browser: webdriver.Chrome, by: str, what: str):
    """Return an element as soon as it is visible."""
    return WebDriverWait(browser, WAIT_SECONDS).until(expected.visibility_of_element_located((by, what)))


def resize(browser: webdriver.Chrome, *, width: int, height: int = 900) -> None:
    """Make the page as wide as a screen is; a window itself cannot be as narrow as a telephone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def console_errors(browser: webdriver.Chrome) -> list[str]:
    """Return what went wrong in the browser since this was asked last: of scripts, policies and loading."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
