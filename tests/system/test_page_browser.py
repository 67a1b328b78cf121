"""The page "Models", as a person meets it in Airflow: log in, click, read."""

import httpx
import pytest
from browser import log_in, open_browser, wait
from selenium.webdriver.common.by import By

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_the_page_is_behind_airflows_login(lab):
    for path in ("/modelway/models", "/modelway/api/models", "/modelway/models/resumes/versions/1"):
        assert httpx.get(f"{lab.airflow.url}{path}").status_code == 401


def test_a_person_finds_the_versions_in_the_navigation(lab, tmp_path):
    assert lab.finish("resumes") == "success"
    digest = lab.lineage.version("resumes", 1).summary.image.digest
    with open_browser() as browser:
        log_in(browser, url=lab.airflow.url, password=lab.airflow.password)
        wait(browser, By.LINK_TEXT, "Models").click()
        browser.switch_to.frame(wait(browser, By.TAG_NAME, "iframe"))
        section = wait(browser, By.XPATH, "//section[.//h2[contains(., 'resumes')]]")
        text = section.text
        for word in ("v1", "champion", "candidate", "100 %", "train-00000", digest.removeprefix("sha256:")[:12]):
            assert word in text, (word, text)
        section.find_element(By.LINK_TEXT, "v1").click()
        record = wait(browser, By.XPATH, "//*[contains(., 'model/model.safetensors')]")
        assert "train_loss" in browser.find_element(By.TAG_NAME, "body").text
        assert record
        charts = browser.find_elements(By.CSS_SELECTOR, "#training svg.chart")
        assert charts
        assert all(chart.size["width"] > 100 and chart.size["height"] > 50 for chart in charts)
        widths = "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
        reach, width = browser.execute_script(widths)
        assert reach <= width

        browser.find_element(By.LINK_TEXT, "Lineage").click()
        wait(browser, By.XPATH, "//h1[starts-with(., 'Lineage of resumes v1')]")
        text = browser.find_element(By.TAG_NAME, "body").text
        assert f"image {digest.removeprefix('sha256:')[:12]}" in text
        assert "endpoint resumes" in text
