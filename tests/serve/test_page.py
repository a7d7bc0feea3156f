"""The page in headless Chromium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hf_trainpipe import Reranking, SentenceEmbeddings
from hf_trainpipe.runtime.handler.predictor import Predictor
from hf_trainpipe.runtime.tasks.older import task_of_decoder
from hf_trainpipe.serve.settings import TOKEN_VARIABLE
from hf_trainpipe.testing import tiny_model
from tests.package.conftest import write_package
from tests.serve.browser import browser, require
from tests.serve.conftest import Running, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "a-token-for-this-test-0123456789"


@pytest.fixture(scope="module", autouse=True)
def _needs_browser() -> None:
    require()


@pytest.fixture(scope="module")
def server(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with start(package, tmp_path_factory.mktemp("log") / "page.log", **{TOKEN_VARIABLE: TOKEN}) as running:
        yield running


@pytest.fixture(scope="module")
def tags(tagger: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with start(tagger, tmp_path_factory.mktemp("log") / "page.log") as running:
        yield running


def wait(driver: Any, condition: Callable[[Any], Any]) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 60, poll_frequency=0.05).until(condition)


def find(driver: Any, selector: str) -> list[Any]:
    return list(driver.find_elements("css selector", selector))


def fits(driver: Any) -> bool:
    """Nothing reaches beyond the page's width."""
    script = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    return bool(driver.execute_script(script))


def complaints(driver: Any) -> list[str]:
    """What the console says, but for the refusals that a test provokes: violations of the policy, errors of scripts."""
    return [entry["message"] for entry in driver.get_log("browser") if "401" not in entry["message"]]


def test_bars_by_keyboard_alone_on_a_phone(server: Running, package: Path, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    with browser(tmp_path / "profile", width=360, height=740) as driver:
        driver.get(f"http://127.0.0.1:{server.port}/demo")
        wait(driver, lambda d: find(d, "#token-field:not([hidden])"))
        assert driver.switch_to.active_element.get_attribute("id") == "token", "the page says what it lacks"
        text = "she wrote <b>programs</b> & lived in london"
        ActionChains(driver).send_keys(TOKEN, Keys.TAB, text).perform()
        ActionChains(driver).send_keys(Keys.TAB, Keys.ENTER).perform()
        rows = wait(driver, lambda d: find(d, "#answer .bars li"))
        expected = Predictor.load(package).predict([text])[0]
        for row, item in zip(rows, expected, strict=True):
            name, value = row.text.split("\n")
            assert name == item["label"]
            assert float(value.removesuffix(" %")) == pytest.approx(100 * item["score"], abs=0.06)
        widths = lambda d: [bar.size["width"] for bar in find(d, ".fill")]  # noqa: E731
        wait(driver, lambda d: widths(d)[0] == pytest.approx(expected[0]["score"] * 328, abs=2))
        found = widths(driver)
        assert found == sorted(found, reverse=True)
        assert driver.title == driver.find_element("id", "name").text == server_name(package)
        assert fits(driver)
        assert complaints(driver) == []
        live = driver.find_element("id", "answer").get_attribute("aria-live")
        assert live == "polite"
        assert driver.find_element("id", "token").get_attribute("type") == "password"


def server_name(package: Path) -> str:
    return Predictor.load(package).info.name


def test_entities_are_marked_where_they_are(tags: Running, tagger: Path, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    text = "\U0001f600 Ada Lovelace lived in London. She wrote \U0001f469\u200d\U0001f680 programs."
    expected = Predictor.load(tagger).predict([text])[0]
    assert expected, "the tiny model marks something"
    with browser(tmp_path / "profile", dark=True) as driver:
        driver.get(f"http://127.0.0.1:{tags.port}/demo")
        wait(driver, lambda d: "Finds names" in d.find_element("id", "lead").text)
        assert driver.switch_to.active_element.get_attribute("id") == "text", "one can type at once"
        driver.execute_script("document.getElementById('text').value = arguments[0]", text)  # emoji are not typed
        driver.find_element("id", "text").send_keys(Keys.CONTROL, Keys.ENTER)
        marks = wait(driver, lambda d: find(d, "#answer mark"))
        script = "return [arguments[0].firstChild.textContent, arguments[0].lastChild.textContent]"
        found = [driver.execute_script(script, mark) for mark in marks]
        assert found == [[item["text"], item["label"]] for item in expected]
        whole = "return [...document.querySelectorAll('small')].forEach(s => s.remove()), document.querySelector('.marked').textContent"
        assert driver.execute_script(whole) == text
        cells = [
            [cell.text for cell in row.find_elements("css selector", "td")][:2] for row in find(driver, "tbody tr")
        ]
        assert cells == [[item["text"], item["label"]] for item in expected]
        assert fits(driver)
        assert complaints(driver) == []


def test_errors_pairs_and_many_labels(tmp_path: Path) -> None:
    """A pair's two fields, many labels folded, a threshold, and a server that goes away."""
    labels = tuple(f"a rather long label, number {number}" for number in range(12))
    from tests.package.conftest import tiny_model as model_of

    package = write_package(
        tmp_path / "run",
        inputs=[{"text": "ada", "text_pair": "london"}],
        model=model_of(labels),
        task=task_of_decoder(
            {
                "decoder": {"kind": "multi_label", "labels": list(labels), "options": {"threshold": 0.3}},
                "inputs": "pair",
            }
        ),
    )
    with start(package, tmp_path / "log") as server, browser(tmp_path / "profile", width=360) as driver:
        driver.get(f"http://127.0.0.1:{server.port}/demo")
        wait(driver, lambda d: find(d, "#pair-field:not([hidden])"))
        driver.find_element("id", "text").send_keys("ada")
        driver.find_element("id", "ask").click()
        assert driver.switch_to.active_element.get_attribute("id") == "pair", "what is missing gets the focus"
        driver.switch_to.active_element.send_keys("it's")
        driver.find_element("id", "ask").click()
        rows = wait(driver, lambda d: find(d, ".bars li"))
        assert [row.is_displayed() for row in rows] == [True] * 8 + [False] * 4
        driver.find_element("css selector", ".more").click()
        assert all(row.is_displayed() for row in rows)
        answers = server.predict({"text": "ada", "text_pair": "it's"})
        assert len(find(driver, ".bars .best")) == len(answers)
        assert len(find(driver, ".limit")) == 12
        assert fits(driver)
        driver.find_element("css selector", "summary").click()
        assert """"text_pair":"it'\\''s\"""" in driver.find_element("id", "snippet").text
        assert fits(driver)
        server.process.terminate()
        assert server.process.wait(60) == 0
        driver.find_element("id", "ask").click()
        problem = wait(driver, lambda d: find(d, ".problem"))
        assert problem[0].text.startswith("The server does not answer.")


def test_the_policy_lets_nothing_else_in(server: Running, tmp_path: Path) -> None:
    response = server.get("/demo")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    page = response.body.decode()
    assert "http" not in page.replace("http://www.w3.org/2000/svg", ""), "no outside resource"
    assert " style=" not in page
    assert " on" + "click" not in page


@pytest.mark.nightly
def test_documents_in_order_and_a_vector(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    folder = tiny_model(tmp_path / "model")
    tokenizer, cut = AutoTokenizer.from_pretrained(folder), {"max_length": 16, "overflow": "truncate", "stride": 0}
    asked = {"query": "anna", "documents": ["it was a good day", "the film was bad", "anna was kind"]}
    for task, model, given in (
        (Reranking(), AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1), asked),
        (SentenceEmbeddings(), AutoModel.from_pretrained(folder), "it was a good day"),
    ):
        run = tmp_path / type(task).__name__
        package = write_package(run, inputs=[given], model=model, tokenizer=tokenizer, task=task, tokens=cut)
        [answer] = Predictor.load(package).predict([given])
        with start(package, run / "page.log") as running, browser(run / "profile", width=360) as driver:
            driver.get(f"http://127.0.0.1:{running.port}/demo")
            text, pair = wait(driver, lambda driver: find(driver, "#text")), find(driver, "#pair")
            wait(driver, lambda driver: driver.title == "tiny")
            text[0].send_keys(given if isinstance(given, str) else given["query"])
            if not isinstance(given, str):
                pair[0].send_keys("\n".join(given["documents"]))
            driver.find_element("id", "ask").click()
            shown = wait(
                driver,
                lambda driver: (
                    [part.text for part in find(driver, "#answer")] if find(driver, "#answer .took") else None
                ),
            )[0]
            if isinstance(given, str):
                assert f"{len(answer['embedding'])} numbers: {answer['embedding'][0]:.3f}" in shown
            else:
                places = [shown.index(given["documents"][item["index"]]) for item in answer]
                assert places == sorted(places)
            assert fits(driver)
            assert complaints(driver) == []
