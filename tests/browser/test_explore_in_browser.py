"""The page of `winnow explore` in a real browser: it finds, goes back, and runs nobody's words."""

import pytest
from coloured_pairs import HOSTILE, PAIRS, curate, picture, serving, write_shards

pytestmark = pytest.mark.slow  # starts a process with torch


@pytest.fixture(scope="module")
def address(tmp_path_factory, browser):
    """A server that runs for all of these tests."""
    root = tmp_path_factory.mktemp("explored")
    curated = curate(write_shards(root / "raw"), root / "curated")
    with serving(curated, root / "features") as (_, found):
        yield found


@pytest.fixture
def page(browser, address):
    """A page whose console, dialogs and requests are watched."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    opened = context.new_page()
    problems, outside = [], []
    opened.on("console", lambda said: problems.append(said.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda one: one.url.startswith(address) or outside.append(one.url))
    yield opened
    context.close()
    assert (problems, outside) == ([], [])


def keys(page):
    """The keys of the pairs that are shown, by their pictures' addresses."""
    rows = page.eval_on_selector_all(
        "#found img", "all => all.map((one) => Number(new URL(one.src).pathname.split('/')[2]))"
    )
    return [PAIRS[row][0] for row in rows]


def status(page, words):
    page.locator("#status", has_text=words).wait_for()


def test_words_filters_and_the_way_back(page, address):
    page.goto(address)
    status(page, "9 pairs, 1 to 9 shown")
    assert keys(page) == [key for key, _, _ in PAIRS]
    page.fill("#words", "blue")
    page.keyboard.press("Enter")
    status(page, "in the model")
    assert page.url == f"{address}?text=blue"
    assert keys(page)[:2] == ["p02", "q08"]
    page.select_option("#show", "dropped")
    status(page, "2 pairs")
    assert page.url == f"{address}?text=blue&show=dropped"
    assert keys(page) == ["q08", "p06"]
    page.go_back()
    status(page, "9 pairs")
    assert page.input_value("#show") == ""
    page.select_option("#reason", "caption-too-short")
    status(page, "2 pairs")


def test_a_pair_opens_and_closes_by_keyboard(page, address):
    page.goto(f"{address}?order=cosine")
    first = page.locator("#found a").first
    first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    dialog.wait_for()
    assert "pair=4" in page.url
    words = dialog.inner_text()
    assert "8 of 8 distinct captions" in words
    assert "words 3, kept from 2 to 256" in words
    assert page.evaluate("document.activeElement.id") == "close"
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert "pair" not in page.url
    assert first.evaluate("one => one === document.activeElement")


def test_a_picture_finds_others(page, address):
    page.goto(f"{address}?pair=1")
    page.click("text=Search by this picture")
    page.locator("#target img").wait_for()
    status(page, "9 pairs")
    assert page.url == f"{address}?like=1"
    assert keys(page)[0] == "p01"
    file = {"name": "x.png", "mimeType": "image/png", "buffer": picture((20, 20, 220))}
    page.set_input_files("#file", files=[file])
    page.wait_for_url(f"{address}?upload=*")
    status(page, "9 pairs")
    assert page.locator("#target img").evaluate("one => one.decode().then(() => true)")
    assert keys(page)[:2] == ["p02", "q08"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_words_are_text_on_a_small_screen(browser, page, address, scheme):
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{address}?pair=7")
    page.locator("dialog[open] .words").wait_for()
    shown = HOSTILE.replace("\u202e", "⟨U+202E⟩")
    assert page.locator("dialog[open] .words").inner_text() == shown
    assert page.locator("#found .caption", has_text="<img src=x").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(
        "(one => one.scrollWidth <= one.clientWidth)(document.querySelector('dialog'))"
    )
    colours = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    brightness = [sum(int(part) for part in one[4:-1].split(",")) for one in colours]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
