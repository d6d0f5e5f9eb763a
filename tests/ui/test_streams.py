"""Events of the page that begin while its stream of answers ends."""

from __future__ import annotations

from pathlib import Path

from ..support.screens.browser import visit

# A network on which the end of the stream arrives after the answer to the request for the next event.
SLOW_END = """(() => {
    const ask = window.fetch;
    let release = null;
    window.ends = 0;
    window.fetch = async (...request) => {
        const answer = await ask(...request);
        const { pathname } = new URL(request[0].url ?? request[0], location.href);
        if (pathname.endsWith("/queue/join")) {
            const read = answer.json.bind(answer);
            answer.json = async () => {
                const said = await read();
                setTimeout(() => { release?.(); release = null; });
                return said;
            };
        }
        if (!pathname.endsWith("/queue/data")) return answer;
        const late = new TransformStream({
            async transform(text, to) {
                const [before, ...end] = text.split(/(?=data: [^\\n]*close_stream)/);
                to.enqueue(before);
                if (!end.length) return;
                window.ends += 1;
                await new Promise((then) => { release = then; });
                to.enqueue(end.join(""));
            },
        });
        const texts = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(late);
        return new Response(texts.pipeThrough(new TextEncoderStream()), answer);
    };
})()"""


async def test_an_event_that_begins_while_the_stream_ends_is_answered(tmp_path: Path):
    async with visit(tmp_path) as seen:
        await seen.tab.add_init_script(SLOW_END)
        await seen.tab.reload()
        await seen.open_tab("Models")
        await seen.shows("models-name", "m")
        for name, outcome in (
            ("Load", "m loaded in"),
            ("Pin", "m is loaded and stays"),
            ("Unpin", "makes room"),
        ):
            await seen.tab.wait_for_function("window.ends")  # the page is not told yet
            await seen.tab.evaluate("window.ends = 0")
            await seen.click(name)
            await seen.shows("models-outcome", outcome)
