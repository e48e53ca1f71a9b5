"""The page of `bertkit serve` in a real browser: every kind of problem, mouse and keyboard, light, dark and narrow."""

import shutil
import threading
import time

import pytest
from toy_heads import write_head, write_heads
from toy_server import ask, served

from bertkit.tasks.spec import Example
from bertkit.workflows.serve.asked import Asked
from bertkit.workflows.serve.page import read_page
from bertkit.workflows.serve.server import open_served

selenium = pytest.importorskip("selenium.webdriver", reason="the page's tests need selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="the page's tests need chromium and chromedriver")
PATIENCE_S = 30


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    folder = write_heads(tmp_path_factory.mktemp("heads"))
    write_head(folder / "masks", "MaskedLM")
    return folder


@pytest.fixture(scope="module")
def browser():
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,900", "--no-first-run"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    driver.set_page_load_timeout(PATIENCE_S)
    yield driver
    driver.quit()


class Page:
    """The page of a server, as its user sees it."""

    def __init__(self, browser, client):
        self.browser = browser
        browser.get_log("browser")
        browser.get(str(client.base_url))
        self.wait(lambda: self.all("#fields textarea, #fields input"))

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        (found,) = self.all(selector)
        return found

    def wait(self, is_so):
        until_s = time.monotonic() + PATIENCE_S
        while not (found := is_so()):
            assert time.monotonic() < until_s, self.one("body").text
            time.sleep(0.05)
        return found

    def type(self, selector, text):
        self.one(selector).clear()
        self.one(selector).send_keys(text)

    def predict(self, *keys):
        """Asks by the button, or by keys in the field that has the focus, and waits for what comes."""
        self.browser.execute_script("document.getElementById('result').replaceChildren()")
        if keys:
            self.browser.switch_to.active_element.send_keys(*keys)
        else:
            self.one("#send").click()
        self.wait(
            lambda: (
                not self.one("#send").get_attribute("aria-disabled")
                and (self.result() or self.one("#error").is_displayed())
            )
        )

    def result(self):
        return self.one("#result").text

    def bars(self):
        """Names and shares of the bars."""
        return [tuple(row.text.splitlines()) for row in self.all("#result .bars li")]

    def has_no_fault(self):
        """Whether the browser has nothing to complain of, and everything came from the server itself."""
        urls = self.browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        own = self.browser.execute_script("return location.origin")
        severe = [row for row in self.browser.get_log("browser") if row["level"] == "SEVERE"]
        return not severe and all(url.startswith((own, "data:")) for url in urls)


def shown(share):
    return "100 %" if share >= 0.9995 else "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def test_a_text_is_classified_by_keyboard_alone(heads, browser):
    from selenium.webdriver.common.keys import Keys

    with served(open_served(str(heads / "classes"))) as client:
        page = Page(browser, client)
        assert page.browser.switch_to.active_element == page.all("textarea")[0]
        page.browser.switch_to.active_element.send_keys("the cat sat")
        page.predict(Keys.CONTROL, Keys.ENTER)
        answer = ask(client, "the cat sat").json()["outputs"]
        assert page.one(".answer").text == answer["prediction"]
        best = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
        assert page.bars() == [(name, shown(share)) for name, share in best]
        assert page.has_no_fault()


def test_numbers_and_sets_are_shown_as_what_they_are(heads, browser):
    with served(open_served(str(heads / "number"))) as client:
        page = Page(browser, client)
        page.type("#field-text", "the cat")
        page.predict()
        assert float(page.result()) == pytest.approx(ask(client, "the cat").json()["outputs"]["prediction"], abs=1e-3)
    with served(open_served(str(heads / "sets"))) as client:
        page = Page(browser, client)
        page.type("#field-text", "the cat")
        page.predict()
        chosen = ask(client, "the cat").json()["outputs"]["prediction"]
        assert page.one(".answer").text == (", ".join(chosen) or "None of the labels")
        assert {row.text.splitlines()[0] for row in page.all(".bars .best")} == set(chosen)


def test_entities_are_marked_in_the_text_where_they_stand(heads, browser):
    text = "😀 the cat sat"
    with served(open_served(str(heads / "tags"))) as client:
        page = Page(browser, client)
        # Selenium cannot type what lies beyond the first 65,536 characters.
        page.browser.execute_script("document.getElementById('field-text').value = arguments[0]", text)
        page.predict()
        entities = ask(client, text).json()["outputs"]["entities"]
        assert entities
        marks = page.browser.execute_script(
            "return [...document.querySelectorAll('mark')].map(m => [m.firstChild.data, m.lastChild.textContent])"
        )
        assert marks == [[each["text"], each["label"]] for each in entities]
        assert page.has_no_fault()


def test_an_answer_is_marked_in_its_context(heads, browser):
    asked = {"question": "who sat", "context": "the cat sat on the mat"}
    with served(open_served(str(heads / "answers"))) as client:
        page = Page(browser, client)
        page.type("#field-question", asked["question"])
        page.type("#field-context", asked["context"])
        page.predict()
        answer = ask(client, asked).json()["outputs"]
        assert page.one(".answer").text == page.one("mark").text == answer["prediction"]
        assert page.one(".card").text == asked["context"]
        assert [row[0] for row in page.bars()] == [each["text"] for each in answer["probabilities"]]


def test_a_question_without_an_answer_says_so(tmp_path, browser):
    said = {"problem": "span_qa", "null_threshold": -1e9}
    folder = write_head(tmp_path / "answers", "QuestionAnswering", labels=("a", "b"), bertkit=said)
    with served(open_served(str(folder))) as client:
        page = Page(browser, client)
        page.type("#field-question", "who sat")
        page.type("#field-context", "the cat sat")
        page.predict()
        assert page.one(".answer").text == "No answer"
        assert not page.all("mark")
        assert "no answer" in [row[0] for row in page.bars()]


def test_choices_are_added_and_weighed(heads, browser):
    with served(open_served(str(heads / "choices"))) as client:
        page = Page(browser, client)
        page.type("#field-context", "who")
        page.one("#fields > button").click()
        for box, text in zip(page.all("#choices input"), ("the cat", "a mat", "sat on"), strict=True):
            box.send_keys(text)
        page.predict()
        asked = {"context": "who", "choices": ["the cat", "a mat", "sat on"]}
        answer = ask(client, asked).json()["outputs"]
        assert page.one(".answer").text == answer["choice"]
        assert page.bars() == [(c, shown(p)) for c, p in zip(asked["choices"], answer["probabilities"], strict=True)]


def test_a_click_masks_a_word_another_puts_it_back_and_a_guess_can_be_put_in(heads, browser):
    with served(open_served(str(heads / "masks"))) as client:
        page = Page(browser, client)
        page.type("#field-text", "the cat sat")
        page.all("#words button")[1].click()
        page.wait(page.bars)
        assert page.one("#field-text").get_property("value") == "the [MASK] sat"
        words = ask(client, "the [MASK] sat").json()["outputs"]["masks"][0]["words"]
        assert page.bars() == [(each["word"], shown(each["probability"])) for each in words]
        page.one("#words button[aria-pressed=true]").click()
        page.wait(lambda: page.one("#field-text").get_property("value") == "the cat sat")
        page.all("#words button")[1].click()
        page.wait(page.bars)
        page.all("#result .bars button")[0].click()
        filled = f"the {words[0]['word'].removeprefix('##')} sat"
        page.wait(lambda: page.one("#field-text").get_property("value") == filled)
        assert page.has_no_fault()


def focused(page):
    """How a reader of screens calls what has the focus."""
    element = page.browser.switch_to.active_element
    return element.get_property("ariaLabel") or element.text or element.get_attribute("id")


def test_the_focus_stays_where_the_work_is(heads, browser):
    with served(open_served(str(heads / "choices"))) as client:
        page = Page(browser, client)
        page.one("#example").click()
        page.wait(page.bars)
        page.predict()
        assert focused(page) == "Predict"
        labels = [box.get_property("ariaLabel") for box in page.all("#choices input")]
        assert labels == ["Choice 1", "Choice 2", "Choice 3"]
        page.all("#choices button")[0].click()
        assert [box.get_property("ariaLabel") for box in page.all("#choices input")] == labels[:2]
        assert focused(page) == "Remove choice 1"
        page.all("#choices button")[1].click()
        assert focused(page) == "Choice 2"
        assert page.has_no_fault()


def test_all_labels_are_shown_as_they_are_and_the_focus_goes_to_the_first_new_one(tmp_path, browser):
    labels = [f"label_{number}" for number in range(12)]
    folder = write_head(tmp_path / "many", labels=labels)
    with served(open_served(str(folder))) as client:
        page = Page(browser, client)
        page.type("#field-text", "the cat")
        page.predict()
        page.one("#result > button").click()
        assert sorted(name for name, _ in page.bars()) == sorted(labels)
        assert page.browser.switch_to.active_element == page.all("#result .bars li")[8]


class Held:
    """A model of one label that answers when it is let go."""

    def __init__(self):
        self.gate = threading.Event()

    def describe(self):
        return {"problem": "classification", "fields": ["text"], "labels": ["yes"], "max_seq_length": 8}

    def read(self, value, where, parameters):
        return Asked(Example(where, where, (value,)))

    def answer(self, asked):
        assert self.gate.wait(PATIENCE_S)
        return [{"prediction": each.example.texts[0], "probabilities": {"yes": 1.0}} for each in asked]


def test_the_same_is_asked_once_and_something_new_takes_its_place(browser):
    model = Held()
    with served(model) as client:
        page = Page(browser, client)
        counts = lambda: client.get("/api/info").json()["served"]  # noqa: E731
        page.type("#field-text", "old")
        page.one("#send").click()
        page.wait(lambda: counts()["requests"] == 1)
        page.one("#send").click()
        page.type("#field-text", "new")
        page.one("#send").click()
        page.wait(lambda: counts()["gone"] == 1)
        model.gate.set()
        page.wait(page.result)
        assert page.one(".answer").text == "new"
        assert counts()["requests"] == 2


@pytest.mark.parametrize("head", ["classes", "tags", "answers", "choices", "masks"])
@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (1000, "dark"), (360, "light")])
def test_the_example_works_at_every_width_in_light_and_dark(heads, browser, head, width, scheme):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        with served(open_served(str(heads / head))) as client:
            page = Page(browser, client)
            page.one("#example").click()
            page.wait(page.result)
            assert not page.one("#error").is_displayed()
            assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
            ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert ground == {"light": "rgb(251, 250, 247)", "dark": "rgb(20, 22, 26)"}[scheme]
            assert page.has_no_fault()
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_errors_are_said_in_words_and_text_is_never_taken_for_markup(heads, browser):
    with served(open_served(str(heads / "tags"))) as client:
        page = Page(browser, client)
        page.predict()
        assert page.one("#error").text == "The text is empty."
        page.type("#field-text", "<img src=x onerror=alert(1)> cat")
        page.predict()
        assert "<img" in page.result()
        assert not page.all("#result img")
        assert not page.one("#error").is_displayed()
    page.predict()
    assert "is bertkit serve still running?" in page.one("#error").text


def test_the_page_is_one_document_and_its_policy_lets_nothing_else_run():
    page, policy = read_page()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in page
    assert "https://" not in page
