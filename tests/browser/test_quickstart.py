"""What a person sees: the quickstart submitted by its command line, then found in the MLflow UI."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.yaml"
ORCHESTRATE = [str(Path(sys.executable).with_name("orchestrate"))]
SECOND = 1000


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A shortened quickstart and its UI: `job` and `runs` are the links that `orchestrate ui` prints."""
    folder = tmp_path_factory.mktemp("quickstart")
    shorter = [f"--set=stages.search.{change}" for change in ("trials=5", "program.epochs=1")]
    subprocess.run([*ORCHESTRATE, "submit", str(QUICKSTART), *shorter], cwd=folder, check=True, timeout=200)
    command = [*ORCHESTRATE, "ui", "--no-browser"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        links: list[str] = []
        for line in server.stdout:
            links += re.findall(r"http://\S+", line)
            if len(links) == 2:
                break
        yield {"job": links[0], "runs": links[1]}
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    context.add_init_script(  # MLflow's assistant opens itself over the page at the first visit
        "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');"
        "localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')"
    )
    context.set_default_timeout(30 * SECOND)
    yield context.new_page()
    context.close()


def test_the_run_table_holds_job_stage_and_trials(ui: dict[str, str], page: Page) -> None:
    page.goto(ui["runs"])
    page.get_by_role("link", name=re.compile("^quickstart-")).wait_for()
    page.get_by_text("digits (").first.wait_for()
    page.locator(".ag-row button").first.click()
    stage = page.locator(".ag-row").filter(has_text="search")
    stage.get_by_role("link", name="search").wait_for()
    stage.locator("button").first.click()
    page.get_by_role("link", name="trial 0", exact=True).wait_for()


def test_the_jobs_page_tells_what_came_out_and_of_what_data(ui: dict[str, str], page: Page) -> None:
    page.goto(ui["job"])
    page.get_by_text("hypervolume").first.wait_for()
    page.get_by_text("digits (").first.click()
    page.get_by_role("dialog").wait_for()


def test_the_report_and_the_pareto_plot_are_shown(ui: dict[str, str], page: Page) -> None:
    base, _, query = ui["job"].partition("?")
    page.goto(f"{base}/artifacts/report/report.md?{query}")
    page.get_by_role("heading", name="Result").wait_for()
    page.goto("about:blank")
    page.goto(f"{base}/artifacts/report/pareto.html?{query}")
    page.frame_locator("iframe").get_by_text("Trials of quickstart").wait_for()
    assert page.frame_locator("iframe").locator("circle").count() >= 5
    page.goto("about:blank")
    page.goto(f"{base}/artifacts/report/pareto.svg?{query}")
    page.wait_for_function("[...document.images].some(image => image.naturalWidth > 300)")
