"""Use the page in Chromium: sorting, filtering, opening a case, the keyboard, and a console without errors."""

import base64
import io
import time
import zlib

import numpy as np
import pytest
from chromium import FOUND, Chromium
from making import make_run
from PIL import Image, ImageColor

from medpos.core.labels import JSRT
from medpos.report import build

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
    page.run("document.getElementById('viewer')?.close(); document.getElementById('controls')?.reset()")
    page.run("document.getElementById('controls')?.dispatchEvent(new Event('input'))")
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


OPEN = "document.getElementById('viewer').open"
TITLE = "document.getElementById('viewer-title').textContent"
HASH = "location.hash"


def wait(page, expression, wanted):
    """Wait up to 10 s until an expression has a value; pictures are decoded in the background."""
    end = time.monotonic() + 10
    while (found := page.run(expression)) != wanted and time.monotonic() < end:
        time.sleep(0.05)
    assert found == wanted, expression


def open_at(page, address):
    page.run(f"location.hash = {address!r}")
    wait(page, OPEN, True)


def pixels(page, part):
    """Return the pixels [Y, X, 3] of a part of the open case, as they are drawn."""
    uri = page.run(f"document.querySelector('#viewer canvas[data-part={part}]').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


def maps(page, case):
    """Return truth and prediction [slices, Y, X] of a card, decoded here."""
    card = f"[...document.querySelectorAll('.card')].find(c => c.dataset.name === {case!r})"
    text, width, height = page.run(f"(d => [d.labels, d.width, d.height])({card}.dataset)")
    truth, bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(
        2, -1, int(height), int(width)
    )
    return truth, truth ^ bits


def adjust(page, name, value):
    page.run(f"(e => {{ e.{'checked' if isinstance(value, bool) else 'value'} = {str(value).lower()}; "
             f"e.dispatchEvent(new Event('input')); }})(document.getElementById({name!r}))")  # fmt: skip


def test_a_case_opens_enlarged_and_keys_move_between_cases(page):
    names = page.run(SHOWN)
    page.run("document.querySelector('.card button').focus()")
    page.press("ArrowRight")
    assert focused(page, names[1])
    page.press("Home")
    page.press("Enter")
    wait(page, OPEN, True)
    assert page.run(TITLE).startswith(f"{names[0]}, Dice 0.")
    page.press("ArrowRight")
    wait(page, f"{TITLE}.split(',')[0]", names[1])
    labels = page.run("[...document.querySelectorAll('#viewer [role=img]')].map(p => p.getAttribute('aria-label'))")
    parts = ("image", "truth", "prediction", "difference", "uncertainty")
    assert [label.split(", slice")[0] for label in labels] == [f"{part} of {names[1]}" for part in parts]
    assert page.run("document.querySelectorAll('#viewer-detail tbody tr').length") == 3
    page.press("Escape")
    assert page.run(OPEN) is False
    assert focused(page, names[1])
    assert page.run(HASH) == "#cases"


REACHABLE = """[...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')]
    .filter(e => e.tabIndex >= 0 && !e.disabled && e.checkVisibility())"""
FOCUS = f"""(e => {{
    const [box, style] = [e.getBoundingClientRect(), getComputedStyle(e)];
    const seen = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    const marked = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
    return [{REACHABLE}.indexOf(e), seen, marked, e.outerHTML.slice(0, 80)];
}})(document.activeElement)"""


def press_tab_through(page):
    """Press Tab from the top of the page to its end; return what had the focus, each as FOCUS describes it."""
    page.run("(b => { b.tabIndex = -1; b.focus(); b.removeAttribute('tabindex'); scrollTo(0, 0); })(document.body)")
    found = []
    for _ in range(page.run(f"{REACHABLE}.length")):
        page.press("Tab")
        found.append(page.run(FOCUS))
    return found


@pytest.mark.parametrize("width", [1280, 420])
def test_tab_reaches_every_control_in_order_and_shows_where_it_is(page, width):
    page.emulate("light", width, 900)
    found = press_tab_through(page)
    assert [number for number, *_ in found] == list(range(len(found)))
    assert len(found) > 50
    assert [name for _, seen, _, name in found if not seen] == []
    assert [name for _, _, marked, name in found if not marked] == []


def test_keys_sort_a_table_open_details_and_choose_a_filter(page):
    page.emulate("light", 1280, 900)
    page.run("document.querySelectorAll('#table-organs thead button')[3].focus()")
    page.press("Space")
    head = "document.querySelectorAll('#table-organs thead th')[3].getAttribute('aria-sort')"
    first = page.run(head)
    page.press("Enter")
    assert {first, page.run(head)} == {"ascending", "descending"}
    page.run("document.querySelector('summary').focus()")
    is_open = "document.querySelector('summary').parentElement.open"
    before = page.run(is_open)
    page.press("Space")
    assert page.run(is_open) is not before
    page.press("Enter")
    assert page.run(is_open) is before
    page.run("document.getElementById('phase').focus()")
    page.press("ArrowDown")
    assert page.run("document.getElementById('phase').value") != ""
    assert len(page.run(SHOWN)) < 18


def test_tab_stays_within_an_open_case(page):
    open_at(page, "#case=s03_ES&slice=3")
    for _ in range(12):
        page.press("Tab")
        # Between the last control and the first, the browser's own buttons have the focus.
        assert page.run("document.activeElement === document.body || !!document.activeElement.closest('#viewer')")


def test_slices_by_address_arrow_keys_slider_and_wheel(page):
    open_at(page, "#case=s03_ES&slice=3")
    assert page.run(TITLE).startswith("s03_ES")
    truth, prediction = maps(page, "s03_ES")
    name = "document.getElementById('slice-name').textContent"
    assert page.run(name) == "3"
    missed = (pixels(page, "difference") == (0xCC, 0x79, 0xA7)).all(axis=2)
    assert np.array_equal(missed & (truth[2] > 0), (truth[2] > 0) & (prediction[2] == 0) | missed & (prediction[2] > 0))
    page.press("ArrowDown")
    assert page.run(name) == "4"
    assert "slice=4" in page.run(HASH)
    page.press("ArrowUp")
    page.press("ArrowUp")
    assert page.run(name) == "2"
    turn = "document.getElementById('panels').dispatchEvent(new WheelEvent('wheel', {deltaY: 53, cancelable: true}))"
    assert page.run(turn) is False  # the page doesn't scroll as well
    assert page.run(name) == "3"
    adjust(page, "slice", 7)
    assert page.run(name) == "8"
    page.press("ArrowDown")  # there is no further one
    assert page.run(name) == "8"
    assert page.run("document.querySelector('#viewer [data-part=uncertainty]').closest('figure').hidden") is True
    open_at(page, "#case=s01")
    wait(page, f"{TITLE}.split(',')[0]", "s01")
    assert page.run("document.getElementById('slice').checkVisibility()") is False
    assert page.run("document.getElementById('link').hash").startswith("#case=s01")


def test_opacity_outlines_and_uncertainty(page):
    open_at(page, "#case=s02")
    wait(page, f"{TITLE}.split(',')[0]", "s02")
    [truth], [prediction] = maps(page, "s02")
    colors = np.array([ImageColor.getrgb(label.color) for label in JSRT])
    image = pixels(page, "image")
    assert np.ptp(image) > 100
    for part, labels in (("truth", truth), ("prediction", prediction)):
        adjust(page, "opacity", 100)
        assert np.array_equal(pixels(page, part)[labels > 0], colors[labels[labels > 0]])
        assert np.array_equal(pixels(page, part)[labels == 0], image[labels == 0])
        adjust(page, "opacity", 0)
        outline = np.array_equal(pixels(page, part), image)
        adjust(page, "contours", False)
        assert not outline
        assert np.array_equal(pixels(page, part), image)
        adjust(page, "contours", True)
    adjust(page, "opacity", 35)
    unsure = pixels(page, "uncertainty").astype(int)
    assert (unsure[..., 0] >= unsure[..., 2]).all()
    assert np.corrcoef(unsure[..., 0].ravel(), image[..., 0].ravel())[0, 1] > 0.5  # the test's entropy is the image


def test_every_card_is_drawn(page):
    wait(page, "document.getElementById('cards').dataset.drawn", "yes")
    drawn = page.run("[...document.querySelectorAll('.card canvas')].map(c => c.toDataURL().length)")
    assert len(drawn) == 6 + 12
    assert min(drawn) > 5000  # of noise


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


@pytest.fixture(scope="module")
def plain(sources, tmp_path_factory):
    """Build the report of one run, as most people see it."""
    return build(sources[:1], tmp_path_factory.mktemp("plain"))


HINT = "document.querySelector('#organs .more').checkVisibility()"


@pytest.mark.parametrize(("width", "fits"), [(1280, True), (420, False)])
def test_the_table_of_organs_fits_a_wide_window_and_says_where_it_does_not(page, plain, width, fits):
    page.emulate("light", width, 900)
    page.open(plain)
    wait(page, HINT, not fits)
    table = "document.querySelector('#table-organs').closest('.scroll')"
    assert page.run(f"{table}.scrollWidth <= {table}.clientWidth") is fits
    assert page.run("document.querySelectorAll('#table-organs thead th').length") == 13
    if fits:  # all that matters is on the first screen
        assert page.run("document.querySelector('#table-organs').getBoundingClientRect().bottom") < 900


def test_a_link_opens_its_case_at_once(page, plain):
    page.open(plain, "#case=s04")
    wait(page, OPEN, True)
    assert page.run(TITLE).startswith("s04")


def test_exploratory_comparisons_are_filtered(page, tmp_path):
    runs = [make_run(tmp_path / f"r/{name}/0", bundle=name, with_cases=False, whole=False) for name in "ab"]
    page.open(build(runs, tmp_path / "out"))
    page.run("document.querySelector('#comparisons details').open = true")
    rows = "[...document.querySelectorAll('#table-comparisons tbody tr')].filter(r => r.checkVisibility()).length"
    assert page.run(rows) == 4
    page.run(
        "(e => { e.value = 'rv clean'; e.dispatchEvent(new Event('input')); })(document.querySelector('input.filter'))"
    )
    assert page.run(rows) == 1
    assert page.run("document.querySelector('#comparisons [role=status]').textContent") == "1 of 4 rows"
