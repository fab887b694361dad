"""Takes page.png and top.png in headless Chromium; see make.sh.

usage: shots.py BASE_URL TOP_HTML FOLDER
"""

import sys

from playwright.sync_api import expect, sync_playwright

BASE, TOP, FOLDER = sys.argv[1:]
QUESTIONS = ["What is the capital of Italy?", "Turn on the kitchen light."]
PATIENCE_MS = 120_000


def page(browser):
    shot = browser.new_page(viewport={"width": 1280, "height": 800})
    shot.goto(BASE + "/")
    expect(shot.locator("#model option")).not_to_have_count(0)
    for count, question in enumerate(QUESTIONS, start=1):
        shot.locator("#text").fill(question)
        shot.keyboard.press("Enter")
        turns = shot.locator(".turn.assistant")
        expect(turns).to_have_count(count, timeout=PATIENCE_MS)
        expect(turns.last.locator("small")).to_contain_text("tokens", timeout=PATIENCE_MS)
    # The plots need some samples.
    shot.wait_for_timeout(20_000)
    shot.screenshot(path=f"{FOLDER}/page.png")


def top(browser):
    shot = browser.new_page(viewport={"width": 1000, "height": 800})
    shot.goto(f"file://{TOP}")
    shot.add_style_tag(content="body { margin: 12px; width: max-content; background: #000 }"
                               "pre { font: 14px/1.2 'DejaVu Sans Mono', monospace; margin: 0 }")
    # Another font has the dots of the plots, with another width.
    shot.evaluate("""() => {
      const pre = document.querySelector("pre"), walker = document.createTreeWalker(pre, NodeFilter.SHOW_TEXT);
      const texts = [];
      while (walker.nextNode()) texts.push(walker.currentNode);
      for (const text of texts) {
        const cells = document.createElement("span");
        for (const c of text.data) {
          if (c.codePointAt(0) < 0x2800) { cells.append(c); continue; }
          const cell = document.createElement("span");
          cell.style.cssText = "display: inline-block; width: 1ch; overflow: hidden; height: 1em; vertical-align: top";
          cell.textContent = c;
          cells.append(cell);
        }
        text.replaceWith(cells);
      }
    }""")
    shot.locator("pre").screenshot(path=f"{FOLDER}/top.png")


with sync_playwright() as playwright:
    chromium = playwright.chromium.launch(
        executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
    page(chromium)
    top(chromium)
