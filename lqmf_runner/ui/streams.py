"""Keeps the answer of an event that begins while the page's stream of answers ends.

Gradio 6 sends a page the answers of all its events in one stream, and ends it when none is under way. If the answer to
the request for a new event overtakes the message that ends the stream, the client takes the stream for open and opens
no other. What the new event answers is then not shown until yet another event begins: a click that followed an answer
at once was lost. The script stands between the client and the server. Where a stream ends while an event is under way,
it goes on with a new one.
"""

from __future__ import annotations

SCRIPT = """<script>(() => {
    const ask = window.fetch, running = new Set(), ended = new Set();
    let beginning = 0;
    const begin = async (...request) => {
        beginning += 1;
        try {
            const answer = await ask(...request);
            const event = answer.ok && (await answer.clone().json()).event_id;
            if (event && !ended.delete(event)) running.add(event);
            return answer;
        } finally {
            beginning -= 1;
        }
    };
    async function* messages(answer) {
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (let read = await reader.read(); !read.done; read = await reader.read()) {
            const parts = (text + read.value).split("\\n\\n");
            text = parts.pop();
            yield* parts;
        }
    }
    async function* following(answer, request) {
        while (answer) {
            if (!answer.ok) throw answer;
            let next = null;
            for await (const message of messages(answer)) {
                const { msg, event_id } = JSON.parse(message.slice("data: ".length));
                if (msg === "process_completed" && !running.delete(event_id)) ended.add(event_id);
                if (msg === "close_stream" && (beginning || running.size)) next = ask(...request);
                else yield message + "\\n\\n";
                if (msg === "close_stream") break;
            }
            answer = await next;
        }
    }
    window.fetch = async (...request) => {
        const { pathname } = new URL(request[0].url ?? request[0], location.href);
        if (pathname.endsWith("/queue/join")) return begin(...request);
        const answer = await ask(...request);
        if (!pathname.endsWith("/queue/data") || !answer.ok) return answer;
        const said = following(answer, request), encoder = new TextEncoder();
        const body = new ReadableStream({
            async pull(to) {
                const { value, done } = await said.next();
                if (done) to.close(); else to.enqueue(encoder.encode(value));
            },
        });
        return new Response(body, answer);
    };
})()</script>"""
