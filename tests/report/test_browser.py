"""Use the page in Chromium: sorting, filtering, opening a case, the keyboard, and a console without errors."""

import time

import pytest
from chromium import FOUND, Chromium

pytestmark = pytest.mark.skipif(FOUND is None, reason="Chromium is not installed (Debian: apt-get install chromium)")

SHOWN = "[...document.querySelectorAll('.card:not([hidden])')].map(c => c.dataset.name)"


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        chromium.emulate("light", 1280, 900)
        chromium.open(report / "index.html")
        yield chromium


@pytest.fixture(autouse=True)
def _clean(page):
    """Begin every test with all cases shown, and expect no error in the console."""
    page.run("document.getElementById('viewer').close(); document.getElementById('controls').reset()")
    page.run("document.getElementById('controls').dispatchEvent(new Event('input'))")
    yield
    assert page.errors == []


def choose(page, name, value):
    page.run(
        f"(e => {{ e.value = {value!r}; e.dispatchEvent(new Event('input', {{bubbles: true}})); }})"
        f"(document.getElementById({name!r}))"
    )
    return page.run(SHOWN)


def column(page, table, n):
    return page.run(
        f"[...document.querySelectorAll('#table-{table} tbody tr')].map(r => r.cells[{n}].textContent.trim())"
    )


def click_head(page, table, n):
    page.run(f"document.querySelectorAll('#table-{table} thead button')[{n}].click()")
    return page.run(f"document.querySelectorAll('#table-{table} thead th')[{n}].getAttribute('aria-sort')")


def focused(page, name):
    """Wait up to 10 s until this case has the focus, which a closing dialog moves by an event."""
    found = "document.activeElement.closest('.card')?.dataset.name"
    end = time.monotonic() + 10
    while page.run(found) != name and time.monotonic() < end:
        time.sleep(0.05)
    return page.run(found) == name


def test_the_page_loads_no_other_file(page, report):
    assert [url for url in page.requests if not url.startswith("data:")] == [(report / "index.html").as_uri()]


def test_a_refused_script_would_be_noticed(page):
    page.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    assert page.run("window.ran") is None
    page.run("document.body.lastChild.remove()")
    assert len(page.errors) == 1
    page.errors.clear()


def test_numbers_are_sorted_as_numbers_both_ways_and_the_missing_stay_last(page):
    before = column(page, "position_1", 1)
    assert before == ["2", "10", "-"]
    assert click_head(page, "position_1", 1) == "ascending"
    assert column(page, "position_1", 1) == ["2", "10", "-"]
    assert click_head(page, "position_1", 1) == "descending"
    assert column(page, "position_1", 1) == ["10", "2", "-"]


def test_the_organ_table_sorts_by_dice_and_by_name(page):
    assert click_head(page, "organs", 3) == "ascending"
    dice = [float(text.split()[0]) for text in column(page, "organs", 3)]
    assert dice == sorted(dice)
    assert len(set(dice)) > 1
    click_head(page, "organs", 3)
    assert [float(text.split()[0]) for text in column(page, "organs", 3)] == sorted(dice, reverse=True)
    assert click_head(page, "organs", 0) == "ascending"
    names = column(page, "organs", 0)
    assert names == sorted(names, key=str.lower)
    assert page.run("document.querySelectorAll('#table-organs th[aria-sort]').length") == 1


def test_cases_are_sorted_worst_first_and_can_be_reordered(page):
    dice = "[...document.querySelectorAll('.card .dice b')].map(b => Number(b.textContent))"
    assert page.run(dice) == sorted(page.run(dice))
    assert choose(page, "order", "best")[0].startswith("s00")
    assert page.run(dice) == sorted(page.run(dice), reverse=True)
    names = choose(page, "order", "name")
    assert names == sorted(names)


def test_filters(page):
    everything = page.run(SHOWN)
    assert len(everything) == 6 + 12
    hearts = choose(page, "phase", "ES")
    assert len(hearts) == 6
    assert all(name.endswith("_ES") for name in hearts)
    assert page.run("document.getElementById('shown').textContent") == "6 of 18 cases"
    assert choose(page, "text", "s03 acdc") == ["s03_ES"]
    assert choose(page, "text", "nobody") == []
    choose(page, "text", "")
    choose(page, "phase", "")
    lungs = choose(page, "organ", "right_lung")
    assert len(lungs) == 6
    assert not any("_" in name for name in lungs)


def test_a_case_opens_enlarged_and_keys_move_between_cases(page):
    names = page.run(SHOWN)
    page.run("document.querySelector('.card button').focus()")
    page.press("ArrowRight")
    assert focused(page, names[1])
    page.press("Home")
    page.press("Enter")
    assert page.run("document.getElementById('viewer').open") is True
    title = "document.getElementById('viewer-title').textContent"
    assert page.run(title).startswith(f"{names[0]}, Dice 0.")
    page.press("ArrowRight")
    assert page.run(title).startswith(names[1])
    parts = page.run("[...document.querySelectorAll('#viewer [role=img]')].map(p => p.getAttribute('aria-label'))")
    assert parts == [f"{part} of {names[1]}" for part in ("image", "truth", "prediction", "difference")]
    background = "getComputedStyle(document.querySelector('#viewer .whole.truth')).backgroundImage"
    assert page.run(background).count("url(") == 2
    assert page.run("document.querySelectorAll('#viewer-detail tbody tr').length") == 3
    page.press("Escape")
    assert page.run("document.getElementById('viewer').open") is False
    assert focused(page, names[1])


def test_hostile_text_stays_text(page):
    assert page.run("document.querySelectorAll('script').length") == 1
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0
    assert "</script>" in page.run("document.querySelector('h1').textContent")
    assert "$x_1$" in page.run("[...document.querySelectorAll('svg text')].map(t => t.textContent).join()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_text_has_contrast_and_nothing_overflows(page, scheme, width):
    page.emulate(scheme, width, 900)
    assert page.run("document.documentElement.scrollWidth") <= width
    luminance = (
        "(c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)"
        ".map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; })"
    )
    low = page.run(
        f"""(() => {{
          const light = {luminance};
          const ground = (e) => {{
            for (; e; e = e.parentElement) {{
              const c = getComputedStyle(e).backgroundColor;
              if (c !== 'rgba(0, 0, 0, 0)') return c;
            }}
            return 'rgb(255, 255, 255)';
          }};
          const kinds = 'h1, h2, p, th, td, a, caption, figcaption, summary, button, select, li';
          return [...document.querySelectorAll(kinds)]
            .filter(e => e.checkVisibility() && e.innerText.trim())
            .map(e => [light(getComputedStyle(e).color), light(ground(e)), e.tagName + ' ' + e.className])
            .map(([a, b, name]) => [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), name])
            .filter(([ratio]) => ratio < 4.5);
        }})()"""
    )
    assert low == []


def test_everything_has_a_name(page):
    page.emulate("light", 1280, 900)
    assert page.run("[...document.querySelectorAll('main svg')].filter(s => !s.getAttribute('aria-label')).length") == 0
    assert page.run("[...document.images].filter(i => !i.alt).length") == 0
    assert page.run("[...document.querySelectorAll('table')].filter(t => !t.caption).length") == 0
    assert page.run("[...document.querySelectorAll('th')].filter(t => !t.scope).length") == 0
    assert page.run("[...document.querySelectorAll('select, input')].filter(e => !e.labels.length).length") == 0
    ids = page.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
