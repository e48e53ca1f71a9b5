"""The page of a report in a real browser: no error, no request, no sideways scroll, keys reach all of it, it prints."""

import base64
import os
import shutil

import pytest
from toy_runs import JUDGED, judged_labels, write_run

from bertkit.workflows.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser: pip install selenium")
if not (CHROMIUM and DRIVER):
    pytest.skip("no chromium and chromedriver on this machine", allow_module_level=True)

# WCAG 2.2, 1.4.3: text on its ground.
LEAST_CONTRAST = 4.5
CONTRASTS = """
const canvas = document.createElement("canvas");
canvas.width = canvas.height = 1;
const context = canvas.getContext("2d", {willReadFrequently: true});
const known = new Map(), grounds = new Map();
const parsed = (color) => {
  if (!known.has(color)) {
    context.clearRect(0, 0, 1, 1); context.fillStyle = color; context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    known.set(color, [r, g, b, a / 255]);
  }
  return known.get(color);
};
const over = (top, under) => top.slice(0, 3).map((value, n) => value * top[3] + under[n] * (1 - top[3]));
const light = (color) => {
  const [r, g, b] = color.map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  if (!element) return [255, 255, 255];
  if (!grounds.has(element)) {
    grounds.set(element, over(parsed(getComputedStyle(element).backgroundColor), ground(element.parentElement)));
  }
  return grounds.get(element);
};
const found = [];
for (const element of document.querySelectorAll("main *, header *, footer")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.getClientRects().length || element.closest("script")) continue;
  const style = getComputedStyle(element);
  const text = parsed(element.closest("svg") ? style.fill : style.color);
  const [a, b] = [light(over(text, ground(element))), light(ground(element))].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), element.tagName, element.getAttribute("class"), element.textContent]);
}
return [found.length, found.sort((x, y) => x[0] - y[0]).slice(0, 5)];
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1280,900",
        f"--user-data-dir={home}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(DRIVER, env={**os.environ, "HOME": str(home)})
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page for two runs of several splits and long texts, one for each other kind of problem, one of 77 labels."""
    folder = tmp_path_factory.mktemp("pages")
    long = judged_labels(40, text="averyveryverylongwordwithoutanyblankinit" * 6 + " {n} {label}")
    split = {"matched": long, "mismatched": judged_labels(30)}
    runs = [write_run(folder / f"run-{seed}", "classification", split, seed=seed, logs=True) for seed in (0, 1)]
    many = tuple(f"a_rather_long_name_of_label_{n:02d}" for n in range(77))
    found = {"two runs": write_report(runs, output=folder / "two.html").path}
    run = write_run(folder / "many", "classification", {"dev": judged_labels(400, labels=many)})
    found["many labels"] = write_report([run]).path
    for problem in ("tagging", "span_qa"):
        run = write_run(folder / problem, problem, {"dev": JUDGED[problem]()}, logs=True, null_threshold=1.0)
        found[problem] = write_report([run]).path
    return found


def look_at(browser, path, *, width=1280, scheme="light"):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    browser.get(path.as_uri())


def press(browser, *keys):
    for key in keys:
        webdriver.ActionChains(browser).send_keys(key).perform()


@pytest.mark.parametrize("name", ["two runs", "many labels", "tagging", "span_qa"])
def test_the_page_opens_without_an_error_or_a_request(name, pages, browser):
    # Chromium's own first tab asks for a lot.
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    look_at(browser, pages[name])
    assert browser.get_log("browser") == []
    requested = [
        entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]
    ]
    assert len(requested) == 1
    assert pages[name].name in requested[0]
    assert browser.execute_script("return document.querySelectorAll('svg.drawing').length") >= 2


@pytest.mark.parametrize("name", ["two runs", "many labels", "tagging", "span_qa"])
def test_a_phone_never_scrolls_sideways(name, pages, browser):
    look_at(browser, pages[name], width=360)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    browser.execute_script("document.querySelectorAll('[data-panel]').forEach((each) => { each.hidden = false; })")
    # The scroll bar down takes a part of the width.
    sizes = "const root = document.documentElement; return [innerWidth, root.clientWidth, root.scrollWidth]"
    inner, visible, whole = browser.execute_script(sizes)
    assert inner == 360
    assert whole == visible


@pytest.mark.parametrize("name", ["two runs", "many labels", "span_qa"])
def test_what_a_finger_should_hit_on_a_phone_is_large_enough(name, pages, browser):
    look_at(browser, pages[name], width=360)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    # WCAG 2.2, 2.5.8: 24 pixels either way.
    small = browser.execute_script(
        "const all = [...document.querySelectorAll('.top button, [role=tab], .contents a, thead button, summary')];"
        "const shown = all.filter((each) => each.getClientRects().length);"
        "const boxes = shown.map((each) => [each.getBoundingClientRect(), each.outerHTML]);"
        "return [boxes.length, boxes.filter(([box]) => box.width < 23.9 || box.height < 23.9).map((each) => each[1])]"
    )
    assert small[0] > 20
    assert small[1] == []


def test_a_policy_stands_against_scripts_and_addresses_from_outside(pages, browser):
    look_at(browser, pages["tagging"])
    browser.get_log("browser")
    browser.execute_script(
        "const image = new Image(); image.src = 'http://127.0.0.1:9/x.png'; document.body.append(image);"
        "const script = document.createElement('script'); script.textContent = 'window.ran = 1';"
        "document.body.append(script);"
    )
    assert browser.execute_script("return window.ran") is None
    assert sum("Content Security Policy" in entry["message"] for entry in browser.get_log("browser")) == 2


def test_keys_reach_the_tabs_and_move_between_them(pages, browser):
    from selenium.webdriver.common.keys import Keys

    look_at(browser, pages["two runs"])
    seen = []
    for _ in range(12):
        press(browser, Keys.TAB)
        active = browser.switch_to.active_element
        seen.append(active.text or active.get_attribute("aria-label"))
        if active.get_attribute("role") == "tab":
            break
    assert seen[0] == "Skip to the report"
    assert seen[-1] == "All runs"
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.execute_script(outline) == "solid"
    press(browser, Keys.ARROW_RIGHT)
    assert browser.switch_to.active_element.text == "run-0"
    shown = "return [...document.querySelectorAll('.chapter')].filter((each) => !each.hidden).map((each) => each.id)"
    assert browser.execute_script(shown) == ["chapter-2"]
    press(browser, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert browser.switch_to.active_element.text == "run-1"
    press(browser, Keys.HOME)
    assert browser.execute_script(shown) == ["chapter-1"]


def test_the_axis_changes_for_all_curves_at_once(pages, browser):
    look_at(browser, pages["tagging"])
    browser.find_element("css selector", "[data-value='tokens']").click()
    axes = (
        "return [...document.querySelectorAll('.plot[data-axis=steps], .plot[data-axis=tokens]')].map((e) => e.hidden)"
    )
    hidden = browser.execute_script(axes)
    assert hidden == [True, False] * (len(hidden) // 2)
    assert browser.find_element("css selector", "[data-value='tokens']").get_attribute("aria-pressed") == "true"


def test_a_curve_is_read_with_the_arrow_keys_and_escape_ends_it(pages, browser):
    from selenium.webdriver.common.keys import Keys

    look_at(browser, pages["tagging"])
    plot = next(
        each for each in browser.find_elements("css selector", ".plot[data-axis='steps']")
        if "Training loss" in each.get_attribute("aria-label")
    )  # fmt: skip
    browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'}); arguments[0].focus()", plot
    )
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.find_element("css selector", ".tip").text.splitlines() == [
        "2 steps",
        "run: 1".replace("run", "tagging"),
    ]
    press(browser, Keys.END)
    assert browser.find_element("css selector", ".tip").text.splitlines()[0] == "20 steps"
    press(browser, Keys.ESCAPE)
    assert not browser.find_element("css selector", ".tip").is_displayed()


def test_a_table_is_sorted_by_its_heads(pages, browser):
    look_at(browser, pages["two runs"])
    browser.find_elements("css selector", ".chapters [role='tab']")[1].click()
    table = browser.find_element("css selector", "#chapter-2 [role='tabpanel'] table[data-sortable]")
    column = "return [...arguments[0].tBodies[0].rows].map((row) => row.cells[1].dataset.value)"
    head = table.find_elements("css selector", "thead button")[1]
    browser.execute_script("arguments[0].click()", head)
    down = list(map(float, browser.execute_script(column, table)))
    browser.execute_script("arguments[0].click()", head)
    up = list(map(float, browser.execute_script(column, table)))
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert len(set(up)) > 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["two runs", "tagging", "span_qa"])
def test_text_stands_out_from_its_ground_in_light_and_dark(name, scheme, pages, browser):
    look_at(browser, pages[name], scheme=scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    browser.execute_script("document.querySelectorAll('[data-panel]').forEach((each) => { each.hidden = false; })")
    number, worst = browser.execute_script(CONTRASTS)
    assert number > 100
    assert worst[0][0] >= LEAST_CONTRAST, worst
    page = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (page == "rgb(255, 255, 255)") == (scheme == "light")


def test_the_theme_button_goes_round_and_is_remembered(pages, browser):
    look_at(browser, pages["tagging"])
    button = browser.find_element("css selector", "[data-theme-button]")
    names = [button.text.split()[-1]]
    for _ in range(2):
        button.click()
        names.append(button.text.split()[-1])
    assert names == ["Auto", "Light", "Dark"]
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(ground) == "rgb(19, 22, 26)"
    browser.refresh()
    assert browser.execute_script(ground) == "rgb(19, 22, 26)"
    browser.find_element("css selector", "[data-theme-button]").click()
    assert browser.execute_script(ground) == "rgb(255, 255, 255)"


def test_it_prints_with_every_run_open_and_the_tools_gone(pages, browser):
    look_at(browser, pages["two runs"])
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed[:5] == b"%PDF-"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    shown = "return [...document.querySelectorAll(arguments[0])].map((each) => each.getClientRects().length > 0)"
    assert all(browser.execute_script(shown, ".chapter"))
    assert all(browser.execute_script(shown, "[role='tabpanel']"))
    assert not any(browser.execute_script(shown, ".top, [role='tablist'], .contents"))
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") + printed.count(b"/Type /Page/") >= 3


def test_without_scripts_everything_is_on_the_page(pages, browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        look_at(browser, pages["two runs"])
        texts = browser.find_element("tag name", "main").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert texts.count("Most confident mistakes") >= 4
    assert texts.count("Settings that differ") >= 1
