"""Tests the page at / in headless Chromium. Prints `ok`, or what is wrong.

usage: use_page.py BASE_URL SOCKET EXAMPLE [FOLDER]
With FOLDER, screenshots are stored there.
"""

import json
import re
import sys

from playwright.sync_api import expect, sync_playwright

BASE, FOLDER = sys.argv[1], (sys.argv[4] if len(sys.argv) > 4 else None)
CHROMIUM = "/usr/bin/chromium"
# Without these it contacts hosts on the network when it starts.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]
SIZES = {"phone": (360, 740), "desktop": (1280, 800)}
PATIENCE_MS = 60_000


def picture(page, name):
    if FOLDER:
        page.screenshot(path=f"{FOLDER}/{name}.png")


def fits(page):
    width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1], f"it scrolls sideways: {width}"


def open_page(browser, size, scheme="light"):
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.complaints, page.asked = [], []
    page.on("console", lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: page.complaints.append(str(e)))
    page.on("request", lambda r: page.asked.append(r.url))
    answer = page.goto(BASE + "/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    expect(page.locator("#model option")).not_to_have_count(0)
    return page


def chat(page):
    """Uses only the keyboard: the text box has the focus."""
    page.keyboard.type("What is the capital of Italy?")
    page.keyboard.press("Enter")
    last = page.locator(".turn.assistant").last
    expect(last.locator(".text")).to_contain_text("Rome", timeout=PATIENCE_MS)
    expect(last.locator("small")).to_contain_text("tokens", timeout=PATIENCE_MS)
    expect(page.locator("#text")).to_be_focused()


def whole(browser, size, scheme):
    page = open_page(browser, size, scheme)
    fits(page)
    chat(page)
    # The values are those of the service, and they are updated.
    if size == "phone":
        expect(page.locator("#brief")).to_contain_text("tokens/s")
        page.locator("#brief").press("Enter")
    expect(page.locator("#facts")).to_contain_text("hearth-demo")
    line = page.locator("#speed path:not(.area)")
    expect(line).to_have_attribute("d", re.compile("L.*L.*L"), timeout=PATIENCE_MS)
    label = page.locator("#speed svg").get_attribute("aria-label")
    assert "tokens/s" in label, label
    fits(page)
    picture(page, f"{size}-{scheme}")
    # The conversation so far is sent as well.
    page.locator("#text").focus()
    chat(page)
    fits(page)
    page.locator("#fresh").click()
    expect(page.locator(".turn")).to_have_count(0)
    assert page.complaints == [], page.complaints
    others = [url for url in page.asked if not url.startswith((BASE, "data:"))]
    assert others == [], others
    page.context.close()


def stream(*parts, end=True):
    """Server-sent events in the format of the service."""
    lines = ["data: " + json.dumps({"choices": [{"delta": {"content": p}}]}) for p in parts]
    return "\n\n".join(lines + ["data: [DONE]"] * end) + "\n\n"


def markup_is_text(browser):
    page = open_page(browser, "desktop")
    evil = "<img src=x onerror='document.title=\"taken\"'><b>bold</b>"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        content_type="text/event-stream", body=stream(evil)))
    page.route("**/v1/models", lambda route: route.fulfill(
        json={"object": "list", "data": [{"id": evil, "meta": {}}]}))
    page.reload()
    expect(page.locator("#model option")).to_have_text(evil)
    page.locator("#text").fill(evil)
    page.locator("#send").click()
    expect(page.locator(".turn.assistant .text")).to_have_text(evil)
    expect(page.locator(".turn.user .text")).to_have_text(evil)
    assert page.locator("#said img, #said b").count() == 0
    assert page.title() == "Hearthd", page.title()
    # It does not run when inserted as markup either.
    page.evaluate("html => document.getElementById('said').innerHTML += html", evil)
    page.wait_for_timeout(300)
    assert page.title() == "Hearthd", page.title()
    page.context.close()


def errors_are_said(browser):
    page = open_page(browser, "phone")
    page.route("**/v1/chat/completions", lambda route: route.fulfill(
        status=429, json={"error": {"message": "32 requests wait already: try again in 5 s"}}))
    page.locator("#text").fill("Hello")
    page.keyboard.press("Enter")
    expect(page.locator(".turn.failed")).to_contain_text("try again in 5 s")
    # The connection is lost and restored.
    page.route("**/health", lambda route: route.abort())
    expect(page.locator("#lost")).to_contain_text("No connection", timeout=PATIENCE_MS)
    expect(page.locator("#state")).to_have_text("no connection")
    fits(page)
    picture(page, "phone-lost")
    page.unroute("**/health")
    expect(page.locator("#lost")).to_be_empty(timeout=PATIENCE_MS)
    # A token is requested, stored for this tab, and sent.
    shown = []
    def guarded(route):
        shown.append(route.request.headers.get("authorization"))
        if shown[-1] == "Bearer open sesame":
            route.fallback()
        else:
            route.fulfill(json={"status": "ok"})
    page.route("**/health", guarded)
    expect(page.locator("#token")).to_be_visible(timeout=PATIENCE_MS)
    picture(page, "phone-token")
    page.locator("#token").fill("open sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#pass")).to_be_hidden(timeout=PATIENCE_MS)
    expect(page.locator("#state")).not_to_have_text("token wanted", timeout=PATIENCE_MS)
    assert "Bearer open sesame" in shown
    page.context.close()


def stops(browser):
    page = open_page(browser, "desktop")
    page.locator("#text").fill("Count.")
    # The request is aborted, so that the service knows of the disconnection.
    ended = []
    page.on("requestfailed", lambda r: ended.append(r.url))
    page.route("**/v1/chat/completions", lambda route: None)
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".turn.assistant small")).to_have_text("stopped")
    expect(page.locator("#send")).to_be_visible()
    page.wait_for_timeout(100)
    assert any("/v1/chat" in url for url in ended), ended
    page.unroute("**/v1/chat/completions")
    chat(page)
    page.context.close()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    for size in SIZES:
        for scheme in ("light", "dark"):
            whole(browser, size, scheme)
    markup_is_text(browser)
    errors_are_said(browser)
    stops(browser)
    browser.close()
print("ok")
