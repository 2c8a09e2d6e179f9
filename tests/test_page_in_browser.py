"""The page in a real Chromium: live from the server behind `tunewright ui`, and frozen from a file, on a screen and on a phone."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunewright import TrainingClient
from tunewright._client.job import Job
from tunewright._page.frozen import frozen_page
from tunewright._page.server import PageServer

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = sync_api.expect  # waits: what is looked for may come with the page's next answer
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")]

HOSTILE = "<img src=x onerror=\"document.title='taken'\"></script><script>document.title='taken'</script>"
SCRIPT = """
import json, os, pathlib, sys, time

def tell(**event):
    print(json.dumps(event), flush=True)

hostile, rate, go_on = sys.argv[1], float(sys.argv[2]), pathlib.Path(sys.argv[3])
tell(event="environment", device=hostile, devices=1, libraries={"torch": "2.15.0"})
tell(event="sample", prompt=hostile, text="before", step=0)
tell(event="start", total_steps=40)
for step in range(1, 41):
    tell(event="step", step=step, total_steps=40, loss=3 / step, learning_rate=rate, grad_norm=1.0, tokens_per_second=50.0,
         peak_memory_bytes=10**9, data_wait=0.1, mfu=0.4)
    if step % 10 == 0:
        tell(event="eval", step=step, eval_loss=4 / step)
        print("a plain line", hostile, flush=True)
    while step == 20 and not go_on.exists():
        time.sleep(0.05)
tell(event="sample", prompt=hostile, text="after")
"""
SCREENS = [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def jobs(folder: Path) -> Iterator[list[Job]]:
    """Two jobs that ended, and one that waits at step 20 until there is a file `go-on`."""
    patch = pytest.MonkeyPatch()
    patch.setenv("TUNEWRIGHT_HOME", str(folder / "home"))
    script = folder / "train.py"
    script.write_text(SCRIPT)
    client = TrainingClient("local")
    cases = [("run-a", 1e-4, script), ("run-b", 2e-4, script), ("run-c", 3e-4, folder / "go-on")]
    found = [client.create_job(name, script=script, args=[HOSTILE, rate, file]) for name, rate, file in cases]
    for job in found[:2]:
        job.wait(timeout=120)
    yield found
    for job in found:
        job.delete()
    patch.undo()


@pytest.fixture(scope="module")
def server(jobs: list[Job]) -> Iterator[PageServer]:
    server = PageServer({"local": jobs[0].backend}, next_commands=lambda _, name: [f"tunewright chat {name}"])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # as root, in a container
        yield browser
        browser.close()


@pytest.fixture
def opened(browser) -> Iterator[Callable]:
    """Open a page; at the end it must have complained of nothing, loaded nothing from elsewhere, and run nothing of a job's."""
    contexts, complaints, asked = [], [], []

    def open_(address: str, width: int = 1400, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    yield open_
    titles = [page.title() for context in contexts for page in context.pages]
    for context in contexts:
        context.close()
    assert complaints == []
    assert "taken" not in titles
    assert {url.split("/")[2] for url in asked if not url.startswith(("file:", "data:"))} <= {
        url.split("/")[2] for url in asked if url.startswith("http://127.0.0.1:")
    }


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_list_leads_to_a_job_that_grows_while_one_looks(server, jobs, folder, opened, width, scheme) -> None:
    page = opened(server.address, width, scheme)
    page.wait_for_selector("text=run-a")
    assert "token" not in page.url, "an address that is copied from the bar gives nothing away"
    expect(page.locator(".jobs tbody tr")).to_have_count(3)
    assert fits(page)
    page.click("text=run-c")
    page.wait_for_selector("figure.chart path.line")
    titles = ["Loss", "Learning rate", "Gradient norm", "Tokens per second", "Peak memory", "Data wait", "MFU"]
    expect(page.locator("figure.chart .title")).to_have_text(titles)
    page.wait_for_selector("text=a plain line")
    expect(page.locator(".log")).to_contain_text(HOSTILE)
    expect(page.locator(".sample .prompt")).to_have_text(HOSTILE)
    expect(page.locator(".code")).to_contain_text("script: train.py")
    assert fits(page)
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in back[4:-1].split(",")) < 200) == (scheme == "dark")


def test_a_running_job_moves_without_a_reload(server, jobs, folder, opened) -> None:
    page = opened(server.address)
    page.click("text=run-c")
    page.wait_for_selector("text=step 20 of 40")
    page.locator(".log").evaluate("element => element.dataset.kept = 'yes'")
    (folder / "go-on").touch()
    page.wait_for_selector("text=step 40 of 40", timeout=20_000)
    page.wait_for_selector(".chip.succeeded", timeout=30_000)
    page.wait_for_selector("text=tunewright chat run-c")
    expect(page.locator(".answers .answer > *")).to_have_text(["before training", "before", "after training", "after"])
    expect(page.locator(".log"), "it was updated in place").to_have_attribute("data-kept", "yes")


def test_jobs_that_are_chosen_are_compared(server, opened) -> None:
    page = opened(server.address)
    page.check("input[aria-label='Compare run-a']")
    page.check("input[aria-label='Compare run-b']")
    page.click("text=Compare 2 jobs")
    page.wait_for_selector("text=Differences between the job files")
    lines = page.locator("figure.chart").first.locator("path.line")
    expect(lines, "loss and evaluation loss of each").to_have_count(4)
    expect(page.locator("table").last).to_contain_text("args")
    assert fits(page)


def test_a_curve_is_read_with_the_pointer_and_with_keys(server, opened) -> None:
    page = opened(server.address)
    page.click("text=run-a")
    chart = page.locator("figure.chart").first
    chart.locator("path.line").first.wait_for()
    chart.locator("svg").hover(position={"x": 60, "y": 60})
    expect(chart.locator(".last")).to_contain_text("step 2")
    chart.locator("svg").focus()
    page.mouse.move(0, 0)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(chart.locator(".last")).to_contain_text("step 39")
    page.check("text=Log scale")
    page.check("text=Smooth")
    expect(chart.locator("path.faint")).to_have_count(1)


def test_without_the_token_there_is_a_page_that_says_what_to_do(server, browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.origin)
    page.wait_for_selector("text=Open the whole address")
    assert "run-a" not in page.content()
    context.close()


def test_another_page_gets_nothing_even_if_it_knows_the_token(server, opened, folder, browser) -> None:
    """A page of another origin, which asks with and without preflight, and frames the page."""
    evil = folder / "evil.html"
    evil.write_text(f"""<body><iframe src="{server.address}"></iframe><script>
    const ask = (options) => fetch("{server.origin}/api/jobs", options).then((a) => a.text(), (e) => "refused");
    Promise.all([ask({{headers: {{Authorization: "Bearer {server.token}"}}}}), ask({{}}), ask({{mode: "no-cors"}}), ask({{method: "POST", mode: "no-cors"}})])
      .then((found) => {{ document.body.dataset.found = JSON.stringify(found); }});
    </script>""")
    context = browser.new_context()
    page = context.new_page()
    page.goto(evil.as_uri())
    page.wait_for_selector("body[data-found]")
    found = json.loads(page.locator("body").get_attribute("data-found"))
    assert not [answer for answer in found if "run-a" in answer]
    time.sleep(0.5)
    assert "run-a" not in "".join(frame.content() for frame in page.frames if frame != page.main_frame)
    context.close()


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_frozen_page_is_the_same_page_without_a_server(jobs, folder, opened, width, scheme) -> None:
    file = folder / "report.html"
    file.write_text(jobs[0].report().to_html(), "utf-8")
    page = opened(file.as_uri(), width, scheme)
    page.wait_for_selector("figure.chart path.line")
    expect(page.locator("figure.chart")).to_have_count(7)
    expect(page.locator(".sample .prompt")).to_have_text(HOSTILE)
    expect(page.locator(".code")).to_contain_text("script: train.py")
    assert fits(page)


def test_a_frozen_comparison_shows_each_job(jobs, folder, opened) -> None:
    file = folder / "compare.html"
    file.write_text(frozen_page([job.report() for job in jobs[:2]]), "utf-8")
    page = opened(file.as_uri(), 390, "dark")
    page.wait_for_selector("text=Comparison of 2 jobs")
    assert fits(page)
