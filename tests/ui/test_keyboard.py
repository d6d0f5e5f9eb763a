"""The page by keyboard alone: where Tab goes, that one sees it, and that everything can be done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lqmf_runner.ui.votes import count_votes

from ..support.runs.sample import sample_model, sample_results
from ..support.screens.browser import Visit, visit
from .tabs.test_runs import leave_run

TABS = ["Chat", "Models", "Arena", "Compare", "Batch", "Runs", "Server"]
_MOST_STOPS = 80
# Where the keyboard is: a name for people, its place in the document, and whether it can be seen to be there.
_STOP = """() => {
    const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at);
    const labels = [...(at.labels || [])].map((label) => label.innerText);
    const named = document.getElementById(at.getAttribute("aria-labelledby") || "-");
    const name = at.getAttribute("aria-label") || labels.join(" ") || named?.innerText || at.innerText ||
        at.title || at.placeholder || "";
    window.stops = window.stops || [];
    const again = window.stops.includes(at);
    const after = window.stops.length === 0 ||
        Boolean(window.stops.at(-1).compareDocumentPosition(at) & Node.DOCUMENT_POSITION_FOLLOWING);
    if (!again) window.stops.push(at);
    return {
        tag: at.tagName, name: name.trim().split("\\n")[0], again, after,
        seen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight &&
            box.right > 0 && box.left < innerWidth,
        marked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        isTab: at.getAttribute("role") === "tab", html: at.outerHTML.slice(0, 160),
    };
}"""


async def stops(seen: Visit) -> list[dict[str, Any]]:
    """Press Tab from the chosen tab of the page on, until the page ends."""
    await seen.tab.evaluate("window.stops = []")
    found = []
    for _ in range(_MOST_STOPS):
        await seen.tab.keyboard.press("Tab")
        stop = await seen.tab.evaluate(_STOP)
        if stop["tag"] == "BODY" or stop["again"] or (stop["isTab"] and not stop["after"]):
            return found
        found.append(stop)
    raise AssertionError(f"Tab does not come to an end: {[stop['name'] for stop in found]}")


async def test_tab_goes_through_each_tab_in_order_and_is_seen_everywhere(tmp_path: Path):
    leave_run(tmp_path, "10-00-00-compare", sample_results(sample_model("a"), sample_model("b")))
    async with visit(tmp_path) as seen:
        for name in TABS:
            await seen.tab.get_by_role("tab", name=name).focus()
            await seen.tab.keyboard.press("Enter")
            panel = seen.tab.get_by_role("tabpanel").locator("visible=true").first
            await panel.wait_for()
            found = await stops(seen)
            assert len(found) > 3, name
            for stop in found:
                assert all(stop[key] for key in ("seen", "marked", "after", "name")), (name, stop)


async def test_a_model_is_loaded_asked_and_voted_for_by_keyboard(tmp_path: Path):
    async with visit(tmp_path) as seen:
        key = seen.tab.keyboard.press
        await seen.tab.get_by_role("tab", name="Models").focus()
        await key("Enter")
        await seen.field("models-name").focus()
        await key("ArrowDown")
        await key("Enter")
        await seen.shows("models-name", "other")
        await key("Tab")
        await key("Enter")
        await seen.shows("models-outcome", "other loaded in")
        await seen.tab.get_by_role("tab", name="Arena").focus()
        await key("Enter")
        await seen.says("other", "#arena-models")
        await seen.field("arena-question").focus()
        await seen.tab.keyboard.type("Which?")
        await key("Tab")
        await key("Enter")
        await seen.says("All answers are the same.", "#arena-parts")
        await seen.tab.get_by_role("button", name="B is better").focus()
        await key("Enter")
        await seen.says("Counted.", "#arena-outcome")
        assert len(count_votes(tmp_path)) == 2


async def test_sliders_move_and_a_file_is_chosen_by_keyboard(tmp_path: Path):
    leave_run(
        tmp_path, "10-00-00-compare", sample_results(sample_model("slow"), sample_model("fast", speed=300.0))
    )
    source = tmp_path / "questions.txt"
    source.write_text("Where is it?\n")
    async with visit(tmp_path) as seen:
        await seen.tab.get_by_role("tab", name="Compare").focus()
        await seen.tab.keyboard.press("Enter")
        await seen.says("slow", "#compare-verdict")
        await seen.tab.locator("#compare-speed input[type=range]").focus()
        await seen.tab.keyboard.press("End")
        await seen.says("None", "#compare-verdict h3")
        await seen.tab.get_by_role("tab", name="Batch").focus()
        await seen.tab.keyboard.press("Enter")
        await seen.shows("batch-model", "m")
        async with seen.tab.expect_file_chooser() as chooser:
            await seen.tab.locator("#batch-file button").first.press("Enter")
        await (await chooser.value).set_files(source)
        await seen.says("Where is it?", "#batch-preview")
