"""The web page of docs/deploy.md answers as the run does, in a browser with onnxruntime-web.

Skipped unless $SER_ORT_WEB names the folder `dist` of the npm package onnxruntime-web, and a browser is at hand.
"""

import functools
import http.server
import json
import os
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_runs import sound, train

from ser_lib.deploy import to_onnx

for package in ("onnx", "onnxscript", "onnxruntime", "playwright"):
    pytest.importorskip(package)
ROOT = Path(__file__).parents[2]


def test_the_page_of_the_docs_reads_settings_that_an_export_has(tmp_path, monkeypatch):
    run, _ = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp")
    settings = json.loads((to_onnx(run, tmp_path / "out") / "preprocessor.json").read_text())
    text = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    assert set(re.findall(r"settings\.audio\.(\w+)", text)) <= set(settings["audio"])
    assert set(re.findall(r"settings\.(\w+)", text)) <= set(settings)


def test_the_page_of_the_docs_answers_as_the_run_does(tmp_path, monkeypatch):
    runtime, browser = os.environ.get("SER_ORT_WEB"), shutil.which("chromium") or shutil.which("google-chrome")
    if not (runtime and browser):
        pytest.skip("SER_ORT_WEB does not name the folder dist of onnxruntime-web, or there is no browser")
    from playwright.sync_api import sync_playwright

    plain = ["input.audio.trim_below_db=null", "input.audio.max_seconds=2.0"]
    run, _ = train(tmp_path, monkeypatch, "demo", "input.pooling=mean", "model.name=mlp", *plain)
    export = to_onnx(run, tmp_path / "out")
    (page,) = re.findall(r"^```html\n(.*?)^```$", (ROOT / "docs/deploy.md").read_text(encoding="utf-8"), re.M | re.S)
    address = re.search(r"https://[^\"]+/dist/", page)[0]
    (export / "index.html").write_text(page.replace(address, "./ort/"), encoding="utf-8")
    shutil.copytree(
        runtime,
        export / "ort",
        ignore=lambda _, names: [name for name in names if ".wasm" not in name and "ort-wasm" not in name],
    )
    files = [tmp_path / "short.wav", tmp_path / "long.wav"]
    # The browser's resampler is another: these have the model's own rate.
    soundfile.write(files[0], np.stack([sound(0.7, 1), sound(0.7, 2)], axis=1), 16000)
    soundfile.write(files[1], sound(1.9), 16000)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(export))
    handler.extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            tab = chromium.new_page()
            problems: list = []
            tab.on("pageerror", lambda error: problems.append(error))
            tab.goto(f"http://127.0.0.1:{server.server_port}/")
            # The page listens once the model is loaded.
            tab.wait_for_function("document.querySelector('input').onchange !== null", timeout=60_000)
            answers = []
            for file in files:
                tab.evaluate("document.querySelector('output').textContent = ''")
                tab.set_input_files("input", str(file))
                tab.wait_for_function("document.querySelector('output').textContent !== ''", timeout=30_000)
                answers.append(tab.text_content("output").split())
            chromium.close()
        server.shutdown()
    assert not problems
    expected = run.predict(files)
    assert [answer[0] for answer in answers] == expected["emotion"].tolist()
    np.testing.assert_allclose([list(map(float, answer[1:])) for answer in answers], expected[run.emotions], atol=2e-3)
