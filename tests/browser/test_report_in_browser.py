"""The report in a real browser: it shows itself, answers, loads nothing, runs nobody's words."""

import dataclasses
import itertools
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import HOSTILE
from page_folders import opener, write_curation, write_places, write_runs
from result_rows import measured

from winnow.data.audit import AUDIT_SCHEMA
from winnow.reports.colours import DARK, LIGHT
from winnow.reports.page import write_report
from winnow.reports.robustness_plot import FittedLine, RobustnessPlot, RobustnessPoint

SEEN = HOSTILE + "\u202egnp.exe\u0007" + "x" * 5_000
RUN = '<b onclick=alert(3)>"\u05d0'
PARTS = [
    *("results", "evaluation", "curation", "concepts", "training", "examples"),
    *("audit-0", "provenance"),
]


def more_results(run, gain):
    """Sets by the dozen, with every protocol that has a part of the page."""
    of_sets = [
        measured(task=f"set-{n}", value=value, low=value - 0.05, high=value + 0.05, n=1_000 + n)
        for n in range(12)
        if (value := 0.05 * n + gain)
    ]
    probes = [
        measured(
            task="set-3",
            protocol="linear-probe",
            value=0.6,
            low=0.5,
            high=0.7,
            settings={"strength": 1.0, "path": [[0.1, 0.4], [1.0, 0.6]], "chosen_by": SEEN},
        )
    ]
    few = [
        measured(task="set-3", protocol="few-shot", method=method, shots=shots, value=0.3, low=0.2)
        for method in ("text-initialised", HOSTILE)
        for shots in (1, 2, 4)
    ]
    hostile = [measured(task=SEEN, metric="top1", value=0.5, low=0.4, high=0.6)]
    path = run / "evaluation" / "results.jsonl"
    rows = [json.dumps(dataclasses.asdict(row)) for row in (*of_sets, *probes, *few, *hostile)]
    path.write_text("".join(row + "\n" for row in rows) + path.read_text())


def write_audit(run):
    names = AUDIT_SCHEMA.names[5:]
    rows = [
        {"uid": f"{n:032x}", "shard": SEEN, "key": SEEN, "caption": SEEN, "times": n}
        | dict.fromkeys(names, n / 30)
        for n in range(30)
    ]
    facts = {"fingerprint": "f", "steps": "400", "version": "0", "segments": "none"}
    table = pa.Table.from_pylist(rows, AUDIT_SCHEMA)
    metadata = {f"winnow.{name}": value for name, value in facts.items()}
    pq.write_table(table.replace_schema_metadata(metadata), run / "audit.parquet")


def robustness(names):
    ends = {"x_low": 0.45, "x_high": 0.55, "y_low": 0.3, "y_high": 0.4}
    points = [
        RobustnessPoint(label=name, x=0.5, y=0.35, kind="run", expected=0.3, **ends)
        for name in names
    ]
    line = FittedLine(slope=1.0, intercept=-0.5, low=0.4, high=0.6, words=SEEN)
    return RobustnessPlot(shift=SEEN, in_distribution=SEEN, points=points, line=line, note=SEEN)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with something in every part, and somebody else's words wherever there can be."""
    home = tmp_path_factory.mktemp("report")
    places = write_places(home)
    runs = write_runs(home, places)
    runs[1] = runs[1].rename(runs[1].with_name(RUN))
    for run, gain in zip(runs, (0.1, 0.15), strict=True):
        more_results(run, gain)
    write_audit(runs[0])
    finding = {"step": 3, "rule": SEEN, "event": "began", "sentence": SEEN}
    (runs[1] / "health.jsonl").write_text(json.dumps(finding) + "\n")
    selection = write_curation(home)
    ledger = selection.parent.parent / "ledger" / "00000.parquet"
    rows = pq.read_table(ledger)
    captions = [SEEN if n == 1 else text for n, text in enumerate(rows["caption"].to_pylist())]
    place = rows.schema.get_field_index("caption")
    pq.write_table(rows.set_column(place, rows.schema.field(place), [captions]), ledger)
    return write_report(
        home / "report.html",
        selection=selection,
        runs=runs,
        tasks={name: opener(place) for name, place in places.items()},
        title="A report",
        notes=[SEEN],
        robustness=[robustness(["a", RUN])],
    )


class Watched:
    """A page with everything that it said, asked for, and would have shown in a dialog."""

    def __init__(self, context, report):
        self.page = context.new_page()
        self.said, self.asked, self.dialogs = [], [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog), dialog.dismiss()))
        self.page.goto(report.as_uri())

    def outside(self):
        """What was asked for beside the file itself and what is inside it."""
        page = self.asked[0]
        return [url for url in self.asked if url != page and not url.startswith("data:")]


@pytest.fixture
def visit(browser, report):
    """Opens the page as somebody sees it; in the end it has said and asked for nothing."""
    contexts, visits = [], []

    def opened(width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        visits.append(Watched(context, report))
        return visits[-1].page

    yield opened
    for one, context in zip(visits, contexts, strict=True):
        said, outside, dialogs = one.said, one.outside(), one.dialogs
        context.close()
        assert (said, outside, dialogs) == ([], [], [])


def texts(page, table, column):
    """A column of the table with this caption, top down, of the rows that are shown."""
    rows = page.locator("table", has=page.locator("caption", has_text=table)).locator("tbody tr")
    return rows.evaluate_all(
        "(rows, column) => rows.filter(row => row.checkVisibility())"
        ".map(row => [...row.cells].at(column).innerText.trim())",
        column,
    )


def numbers(words):
    return [float(re.match(r"[-−\d.,]+", one)[0].replace(",", "")) for one in words]


@pytest.mark.parametrize("width", [1280, 390])
def test_every_part_has_a_place_on_the_screen(visit, width):
    page = visit(width)
    assert [one.get_attribute("id") for one in page.locator("section").all()] == PARTS
    sizes = page.locator("section, section h2").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(box => [box.width, box.height])"
    )
    assert len(sizes) == 2 * len(PARTS)
    assert all(across > 300 and down > 60 for across, down in sizes[::2])
    assert all(across > 40 and down > 15 for across, down in sizes[1::2])
    flat = page.evaluate(
        "[...document.querySelectorAll('section svg.chart')].filter(s => s.checkVisibility()"
        " && Math.min(s.getBoundingClientRect().width, s.getBoundingClientRect().height) < 10)"
        ".length"
    )
    assert flat == 0
    broken = page.evaluate(
        "Promise.all([...document.images].map(i => i.decode().then(() => 0, () => 1)))"
    )
    assert len(broken) > 20 and sum(broken) == 0
    # Nothing sticks out at the side: what is wide scrolls in its own frame.
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("#audit-0").get_by_text("30 pairs").first.is_visible()


def test_a_column_is_sorted_and_put_back(visit):
    page = visit()
    page.evaluate("document.querySelector('#evaluation details details').open = true")
    before = texts(page, "Every set in numbers", 2)
    table = page.locator("table", has=page.locator("caption", has_text="Every set in numbers"))
    head = table.locator("thead th").nth(2)
    button = head.get_by_role("button")
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    falling = numbers(texts(page, "Every set in numbers", 2))
    assert falling == sorted(falling, reverse=True) and len(falling) == 16
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers(texts(page, "Every set in numbers", 2)) == falling[::-1]
    button.click()
    assert head.get_attribute("aria-sort") is None
    assert texts(page, "Every set in numbers", 2) == before


def test_names_sort_as_people_count_and_what_is_missing_is_last(visit):
    page = visit()
    results = page.locator("table", has=page.locator("caption", has_text="Results and diff"))
    results.locator("thead th").nth(0).get_by_role("button").click()
    names = texts(page, "Results and diff", 0)
    of_sets = [name for name in names if name.startswith("set-")]
    assert of_sets == [f"set-{n}" for n in range(12)]
    # Rows of one task say its name each, now that they may be apart.
    assert names.count("pixels") == 4
    difference = results.locator("thead th").last.get_by_role("button")
    for _ in range(2):
        difference.click()
        found = texts(page, "Results and diff", -1)
        assert "–" not in found[:4] and found[4:] == ["–"] * 13


def test_rows_are_filtered_by_words(visit):
    page = visit()
    box = page.get_by_role("searchbox", name="Filter rows: Results and differences")
    box.fill("set-1 TOP")
    assert texts(page, "Results and diff", 0) == ["set-1", "set-10", "set-11"]
    assert page.locator("#results .filter [role=status]").first.inner_text() == "3 of 17 rows"
    box.fill("<script>")
    assert len(texts(page, "Results and diff", 0)) == 1
    box.fill("")
    assert len(texts(page, "Results and diff", 0)) == 17


def test_pairs_are_searched(visit):
    page = visit()
    box = page.get_by_role("searchbox", name="Search the pairs")
    found = page.locator("#search-found tr")
    assert found.count() == 0
    box.fill("img caption-file")
    assert page.locator("#search-count").inner_text() == "2 pairs"
    assert {row.locator("bdi").first.inner_text() for row in found.all()} == {
        "IMG_1.png",
        "IMG_2.png",
    }
    box.fill("alert(1) kept")
    assert page.locator("#search-count").inner_text() == "1 pair"
    assert "<script>alert(1)</script>" in found.inner_text()
    assert re.search(r"gnp\.exe⟨U\+0007⟩x+… \(\+4,9\d\d characters\)", found.inner_text())
    box.fill("nothing has this")
    assert (page.locator("#search-count").inner_text(), found.count()) == ("0 pairs", 0)


def test_the_keyboard_reaches_everything(visit):
    page = visit()
    focused = "document.activeElement"
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    assert skip.evaluate(f"one => one === {focused}") and skip.bounding_box()["y"] >= 0
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.id") == "theme"
    reached = []
    for _ in PARTS:
        page.keyboard.press("Tab")
        reached.append(page.evaluate(f"{focused}.getAttribute('href')"))
    assert reached == [f"#{part}" for part in PARTS]
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    assert not page.locator("#results table").first.is_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.type") == "search"
    outline = page.evaluate(f"getComputedStyle({focused}).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Tab")
    if page.evaluate(f"{focused}.classList.contains('scroll')"):  # a frame that is too wide
        page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.className") == "sort"
    page.keyboard.press("Enter")
    assert page.evaluate(f"{focused}.parentElement.getAttribute('aria-sort')") == "ascending"


def test_a_link_of_the_contents_unfolds_its_part(visit):
    page = visit()
    page.locator("#training > details > summary").click()
    assert not page.locator("#training table").first.is_visible()
    page.get_by_role("link", name="Training").click()
    page.locator("#training table").first.wait_for(state="visible")
    assert page.url.endswith("#training")


def rgb(colour):
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))


def test_light_dark_paper_and_motion_are_as_asked_for(visit):
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('h2')).color"
    page = visit()
    for scheme, mine, other in (("dark", DARK, LIGHT), ("light", LIGHT, DARK)):
        page.emulate_media(color_scheme=scheme)
        assert (page.evaluate(ground), page.evaluate(ink)) == (rgb(mine["page"]), rgb(mine["ink"]))
        page.get_by_role("button", name="colours").click()
        assert (page.evaluate(ground), page.evaluate(ink)) == (
            rgb(other["page"]),
            rgb(other["ink"]),
        )
        page.reload()
    page.get_by_role("button", name="colours").click()
    page.emulate_media(media="print", reduced_motion="no-preference")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    # Motion is for those who want it.
    moves = "getComputedStyle(document.documentElement).scrollBehavior"
    assert page.evaluate(moves) == "smooth"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moves) == "auto"


def test_hostile_words_are_read_and_nothing_of_them_is_there(visit):
    page = visit()
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    text = page.locator("body").inner_text()
    assert text.count("<script>alert(1)</script>") > 20
    assert "⟨U+202E⟩gnp.exe⟨U+0007⟩" in text and "{{ 7 * 7 }}" in text
    assert '<b onclick=alert(3)>"\u05d0' in text
    assert "\u202e" not in page.content() and "\x07" not in page.content()
    assert "x" * 1_001 not in page.content()
    scripts = "[...document.scripts].map(one => one.type || one.textContent.slice(0, 12))"
    assert page.evaluate(scripts) == ["application/json", '"use strict"']
    assert page.locator("img[src='x'], [onerror], [onclick], iframe, object").count() == 0


def test_a_page_that_was_tampered_with_loads_nothing(browser, report):
    context = browser.new_context()
    one = Watched(context, report)
    stopped = one.page.evaluate(
        """() => new Promise(done => {
            const stopped = [];
            document.addEventListener("securitypolicyviolation", event => {
                stopped.push(event.effectiveDirective);
                if (stopped.length === 4) done(stopped.sort());
            });
            const add = (tag, values) => document.body.append(
                Object.assign(document.createElement(tag), values));
            add("img", { src: "http://example.invalid/a.png" });
            add("script", { textContent: "alert(4)" });
            add("style", { textContent: "body { display: none }" });
            fetch("http://example.invalid/").catch(() => 0);
        })"""
    )
    assert stopped == ["connect-src", "img-src", "script-src-elem", "style-src-elem"]
    assert one.dialogs == []
    context.close()


def test_without_scripts_all_is_there(visit):
    page = visit(java_script_enabled=False)
    assert page.locator("#results table").first.is_visible()
    assert page.locator("#examples img").first.is_visible()
    assert page.locator("noscript").inner_text() == "The search needs scripts."
    assert not page.locator("#theme").is_visible()
    assert page.locator(".sort, .filter").count() == 0


def test_screen_readers_find_their_way(visit):
    page = visit()
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for nameless in (
        "table:not(:has(> caption:not(:empty)))",
        "thead th:not([scope]), tbody th:not([scope])",
        "img:not([alt])",
        "svg[role=img]:not(:has(> title:not(:empty)))",
        "button:empty, a:empty, summary:empty, h2:empty, h3:empty, h4:empty",
        "input:not([aria-label])",
    ):
        assert page.locator(nameless).count() == 0, nameless
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    assert [page.get_by_role(role).count() for role in ("banner", "main", "contentinfo")] == [1] * 3
    assert page.get_by_role("region").count() == len(PARTS)
    assert page.get_by_role("navigation", name="Contents").count() == 1
