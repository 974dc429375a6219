"""The dashboard in Debian's chromium: live progress, models, comparison, and no complaint."""

import onnx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from conftest import MODELS

pytestmark = pytest.mark.browser


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def until(browser, condition, seconds=120):
    return WebDriverWait(browser, seconds, poll_frequency=0.05).until(condition)


def text_of(browser, selector):
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)


def complaints(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def prepare(daemon, fashion):
    assert daemon.put_model("mlp", MODELS / "mlp.onnx").status == 201
    assert daemon.put_dataset("all", fashion / "all.npz").status == 201


def spec(name):
    return {"name": name, "model": "mlp",
            "pipeline": [{"pass": "quantize_static"}, {"pass": "prune_unstructured"}],
            "data": {"calibrate": "all", "evaluate": "all"}, "evaluate": {"latency": {"batch": [1]}}}


def test_a_job_is_followed_live_and_compared(daemon, fashion, browser):
    prepare(daemon, fashion)
    browser.get(daemon.url)
    until(browser, lambda b: text_of(b, "#connection") == ["live"])
    assert text_of(browser, "#models tr th") == ["mlp"]

    job = daemon.submit(spec("nightly"))
    until(browser, lambda b: b.find_elements(By.CSS_SELECTOR, f"#{job} progress"))
    until(browser, lambda b: "succeeded" in text_of(b, f"#{job}")[0])

    browser.find_element(By.CSS_SELECTOR, f"#{job} input").click()
    until(browser, lambda b: len(text_of(b, "#compare tbody tr")) == 3)
    assert text_of(browser, "#compare tbody th") == ["original", "quantize_static", "prune_unstructured"]
    heads = text_of(browser, "#compare thead th")
    assert any(head.startswith("Accuracy") for head in heads), heads
    top5 = [head.startswith("Top-5") for head in heads].index(True) - 3
    cell = text_of(browser, f"#compare tbody tr td:nth-of-type({top5 + 3})")
    assert all(50 < float(text) <= 100 for text in cell), cell
    assert complaints(browser) == []


def test_training_and_sensitivity_are_drawn(daemon, fashion, browser):
    prepare(daemon, fashion)
    assert daemon.put_dataset("few", fashion / "small.npz").status == 201
    job = daemon.submit({
        "model": "mlp", "data": {"train": "few", "calibrate": "few", "evaluate": "few"},
        "pipeline": [{"pass": "distill", "student": {"mlp": [16]}, "epochs": 3, "validate": 0.2},
                     {"pass": "prune_structured", "sensitivity": True},
                     {"pass": "quantize_static", "sensitivity": True, "max_accuracy_drop": 0.5}]})
    browser.get(daemon.url)
    until(browser, lambda b: "succeeded" in (text_of(b, f"#{job}") or [""])[0])
    browser.find_element(By.CSS_SELECTOR, f"#{job} input").click()
    until(browser, lambda b: text_of(b, "#charts figcaption"))
    captions = text_of(browser, "#charts figcaption")
    assert any(caption.startswith("distill: loss") for caption in captions), captions
    assert "prune_structured: accuracy when a group alone is pruned (by % of its channels)" in captions
    assert "quantize_static: SQNR when a layer alone is quantized (dB, by layer)" in captions
    assert "quantize_static: accuracy when a layer alone is quantized (by layer)" in captions
    assert "quantize_static: accuracy with layers in float (by their number)" in captions
    lines = browser.execute_script(
        "return [...document.querySelectorAll('#charts polyline')].map(e => e.points.length)")
    assert len(lines) >= len(captions) and max(lines) > 2, lines
    inside = browser.execute_script(
        "return [...document.querySelectorAll('#charts polyline')].every(e => [...e.points]"
        ".every(p => p.x >= 52 && p.x <= 412 && p.y >= 8 && p.y <= 166))")
    assert inside and complaints(browser) == []
    browser.find_element(By.CSS_SELECTOR, f"#{job} input").click()
    until(browser, lambda b: not text_of(b, "#charts figcaption"))


def test_a_running_training_draws_its_curve_as_it_goes_also_for_who_comes_late(daemon, fashion, browser):
    prepare(daemon, fashion)
    job = daemon.submit({
        "name": "long", "model": "mlp", "data": {"train": "all"},
        "pipeline": [{"pass": "finetune", "epochs": 2000, "batch_size": 128, "learning_rate": 1e-5}]})

    def points(caption):
        return browser.execute_script("""
            const figure = [...document.querySelectorAll('#running figure')]
                .find(f => f.querySelector('figcaption').textContent === arguments[0]);
            return figure ? figure.querySelector('polyline').points.length : 0""", caption)

    def told(figure):
        progress = daemon.get(f"/v1/jobs/{job}").json().get("progress") or {}
        return progress["done"] if figure in progress.get("figures", {}) else 0

    came = 200_000  # samples: seconds, while the first event is told in a fraction of one
    until(browser, lambda b: told("accuracy") > came)
    browser.get(daemon.url)
    loss, accuracy = "long, finetune: loss (by sample)", "long, finetune: accuracy (by sample)"
    until(browser, lambda b: points(loss) > 3 and points(accuracy) >= 1)
    first = text_of(browser, "#running .axis ~ text:nth-of-type(3)")
    assert first and float(first[0]) < came / 2, "the curve begins before the page came"
    seen = points(loss)
    until(browser, lambda b: points(loss) > seen + 3)
    assert any(text.endswith(" now") for text in text_of(browser, "#running li"))
    assert daemon.request("POST", f"/v1/jobs/{job}/cancel").status in (200, 202)
    until(browser, lambda b: text_of(b, "#running figure") == [])
    assert complaints(browser) == []


def test_names_from_strangers_are_text(daemon, browser, tmp_path):
    evil = "<img src=x onerror=document.title='owned'>"
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    node = onnx.helper.make_node(evil, ["x"], ["y"], domain="evil")
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [x], [y]), ir_version=8,
        opset_imports=[onnx.helper.make_opsetid("", 13), onnx.helper.make_opsetid("evil", 1)])
    onnx.save(model, tmp_path / "evil.onnx")
    answer = daemon.put_model("evil", tmp_path / "evil.onnx")
    assert answer.status == 201, answer.body
    browser.get(daemon.url)
    until(browser, lambda b: text_of(b, "#models th"))
    assert any(evil in cell for cell in text_of(browser, "#models td"))
    assert browser.title == "shrinkd"
    assert complaints(browser) == []


def test_a_restart_of_the_daemon_is_told_and_survived(start_daemon, fashion, browser):
    daemon = start_daemon("--workers", "1")
    prepare(daemon, fashion)
    browser.get(daemon.url)
    until(browser, lambda b: text_of(b, "#connection") == ["live"])
    port = daemon.port
    daemon.kill()
    until(browser, lambda b: "lost" in text_of(b, "#connection")[0])
    daemon.options = ("--listen", f"127.0.0.1:{port}")
    daemon.start()
    assert daemon.port == port
    until(browser, lambda b: text_of(b, "#connection") == ["live"])


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits(daemon, browser, width):
    browser.set_window_size(width, 900)
    browser.get(daemon.url)
    until(browser, lambda b: text_of(b, "#connection") == ["live"])
    wide, inner = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= inner
