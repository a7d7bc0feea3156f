"""The page of ``hf-trainpipe ui`` in headless Chromium."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hf_trainpipe.serve.settings import TOKEN_VARIABLE
from hf_trainpipe.tracking.ledger import Ledger
from tests.serve.browser import browser, require
from tests.serve.test_page import complaints, find, fits, wait
from tests.ui.making import make_run

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-this-test-0123456789"


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[str]:
    """``hf-trainpipe ui`` in a process; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_trainpipe", "ui", str(folder), "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def get(url: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def names(driver: Any) -> list[str]:
    return [cell.text.split("\n")[0] for cell in find(driver, "#rows th span")]


def test_the_page_sorts_filters_compares_and_follows(tmp_path: Path) -> None:
    require()
    folder = tmp_path / "runs"
    for number in range(3):
        make_run(folder / f"run-{number}", seed=number, score=(0.8, 0.9, 0.7)[number])
    going = make_run(folder / "<b>going", score=None, ended=False, rate=1e-3)
    (folder / "run-1" / "report.html").write_text("<!doctype html><title>A report</title><p>Result first")
    with serving(folder) as url, browser(tmp_path / "profile") as driver:
        driver.get(url)
        wait(driver, lambda d: len(names(d)) == 4)
        assert "<b>going" in names(driver), "text of a run is text"
        driver.find_element("css selector", "#head th:nth-child(4) button").click()
        assert names(driver) == ["<b>going", "run-1", "run-0", "run-2"], "by score; going has 0.95 so far"
        assert find(driver, "th[aria-sort=descending]")[0].text.startswith("Score")
        driver.find_element("id", "search").send_keys("peak_lr")
        wait(driver, lambda d: names(d) == ["<b>going"])
        driver.find_element("id", "search").clear()
        driver.execute_script("document.getElementById('search').dispatchEvent(new Event('input'))")
        for name in ("<b>going", "run-1"):
            driver.find_element("css selector", f"input[aria-label='choose {name}']").click()
        wait(driver, lambda d: len(find(d, "#charts figure")) == 4)
        for row in ("optim.peak_lr 0.001 5e-5", "seed 0 1"):  # the charts of one run are as many
            wait(driver, lambda d, row=row: any(one.text.startswith(row) for one in find(d, "#settings tr")))
        curve = "#charts figure:first-child path"
        assert len(find(driver, curve)) == 2
        before = find(driver, curve)[0].get_attribute("d")
        from hf_trainpipe.checkpoint.lock import RunLock

        with RunLock(going / "run.lock"):
            ledger = Ledger(going / "ledger.jsonl", attempt=1)
            ledger.log({"validation/f1_macro": 0.5}, step=300, epoch=3.0)
            ledger.close()
            wait(driver, lambda d: "running" in d.find_element("id", "lead").text)
            wait(driver, lambda d: find(d, curve)[0].get_attribute("d") != before)
        assert fits(driver)
        assert complaints(driver) == []
        find(driver, "#rows a")[0].click()
        driver.switch_to.window(driver.window_handles[1])
        wait(driver, lambda d: d.title == "A report")


def test_a_token_guards_all_but_the_page_and_links_to_reports(tmp_path: Path) -> None:
    require()
    make_run(tmp_path / "runs" / "run")
    (tmp_path / "runs" / "run" / "report.html").write_text("<!doctype html><title>A report</title>")
    with serving(tmp_path / "runs", **{TOKEN_VARIABLE: TOKEN}) as url:
        assert get(url, "/api/runs")[0] == get(url, "/api/curves?run=run")[0] == 401
        status, _, body = get(url, "/api/runs", Authorization=f"Bearer {TOKEN}")
        assert status == 200
        link = json.loads(body)["runs"][0]["report"]
        status, headers, body = get(url, link)
        assert (status, body) == (200, b"<!doctype html><title>A report</title>")
        assert headers["content-security-policy"].startswith("sandbox allow-scripts")
        for wrong in (link.replace("/run", "/other"), "/report/0/run", link + "/../run.json", "/report/"):
            assert get(url, wrong)[0] == 404
        assert get(url, "/run/run.json", Authorization=f"Bearer {TOKEN}")[0] == 404
        with browser(tmp_path / "profile", width=360, height=740, dark=True) as driver:
            driver.get(url)
            wait(driver, lambda d: find(d, "#token-field:not([hidden])"))
            driver.find_element("id", "token").send_keys(TOKEN + "\t")
            wait(driver, lambda d: names(d) == ["run"])
            assert not find(driver, "#problem:not([hidden])")
            assert fits(driver), "on a phone nothing reaches beyond the page"


@pytest.mark.parametrize("folder", ["none"])
def test_a_folder_that_is_not_there(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hf_trainpipe.cli import run

    assert run(["ui", str(tmp_path / folder)]) == 2
    assert "there is no such folder" in capsys.readouterr().err
