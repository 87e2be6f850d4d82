"""Looks at bookinfo's page in a headless browser. Prints what each load shows, one JSON object a line.

usage: browser.py URL [--user NAME] [--loads COUNT] [--picture FILE]
"""

import argparse
import json
import shutil
import sys

from playwright.sync_api import sync_playwright

arguments = argparse.ArgumentParser()
arguments.add_argument("url")
arguments.add_argument("--user", help="sign in as this user, in the page's dialog")
arguments.add_argument("--loads", type=int, default=1)
arguments.add_argument("--picture", help="keep a picture of the last load")
arguments = arguments.parse_args()


def sign_in(page, user):
    page.get_by_role("button", name="Sign in").click()
    dialog = page.locator("dialog")
    dialog.get_by_placeholder("User Name").fill(user)
    dialog.get_by_placeholder("Password").fill("any")
    dialog.get_by_role("button", name="Sign in").click()
    page.locator("#user").wait_for()


# In one go: each question by itself would be a conversation of three processes.
SEEN = """() => {
    const all = selector => [...document.querySelectorAll(selector)];
    const texts = selector => all(selector).map(element => element.innerText);
    return {
        title: document.title,
        user: texts("#user")[0] ?? null,
        details: texts("#details dt"),
        reviews: all("#reviews blockquote").length,
        colors: [...new Set(all(".stars").map(stars => stars.getAttribute("color")))].sort(),
        stars: texts(".stars"),
        errors: texts(".error, .error + p"),
        served_by: texts(".served u")[0] ?? null,
    };
}"""

with sync_playwright() as playwright:
    # The sandbox of the browser needs namespaces of its own, which are not there for every user.
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(arguments.url)
    if arguments.user:
        sign_in(page, arguments.user)
    for _ in range(arguments.loads):
        page.reload()
        json.dump(page.evaluate(SEEN), sys.stdout, ensure_ascii=False)
        print(flush=True)
    if arguments.picture:
        page.screenshot(path=arguments.picture)
    browser.close()
