import { DefaultChatTransport, readUIMessageStream, type UIMessage } from "ai";
import { createParser, type EventSourceMessage } from "eventsource-parser";
import { describe, expect, test } from "vitest";
import { byHeader, failureOf, post, start, startRun, until, viewOf } from "./fixture.ts";

async function read(url: string, run: string, headers: Record<string, string> = {}): Promise<EventSourceMessage[]> {
  const response = await fetch(`${url}/v1/runs/${run}/ui`, { headers });
  expect(response.status).toBe(200);
  expect(response.headers.get("x-vercel-ai-ui-message-stream")).toBe("v1");
  const frames: EventSourceMessage[] = [];
  createParser({ onEvent: (frame) => frames.push(frame) }).feed(await response.text());
  return frames;
}

const ask = (url: string, run: string, place: string) => fetch(`${url}/v1/runs/${run}/ui`, { headers: { "last-event-id": place } });

describe("the UI stream of a run", () => {
  test("of a flow is read by the SDK's own transport, while it waits and when it goes on", async () => {
    const { url } = await start();
    const run = await startRun(url, "steps");
    await until(async () => (await viewOf(url, run)).status === "parked");
    const transport = new DefaultChatTransport({ prepareReconnectToStreamRequest: () => ({ api: `${url}/v1/runs/${run}/ui` }) });
    const stream = await transport.reconnectToStream({ chatId: "any" });
    if (!stream) throw new Error("There was no stream.");
    await post(`${url}/v1/runs/${run}/signal`, { name: "go" });
    let message: UIMessage | undefined;
    for await (const next of readUIMessageStream({ stream })) message = next;
    expect(message?.id).toBe(run);
    expect(message?.parts.filter(({ type }) => type === "text")).toEqual([{ type: "text", text: "done", state: "done" }]);
  });

  test("is the same from every frame, and ends with 204", async () => {
    const { url } = await start();
    const run = await startRun(url, "parrot", { prompt: "hello" });
    const whole = await read(url, run);
    expect(whole.at(-1)?.data).toBe("[DONE]");
    const frames = whole.slice(0, -1);
    expect(new Set(frames.map(({ id }) => id)).size).toBe(frames.length);
    for (const [index, { id = "" }] of frames.slice(0, -1).entries()) {
      expect(await read(url, run, { "last-event-id": id })).toEqual(whole.slice(index + 1));
    }
    const end = await ask(url, run, frames.at(-1)?.id ?? "");
    expect([end.status, await end.text()]).toEqual([204, ""]);
  });

  test("refuses the place of another run, one that has not come, and what is none", async () => {
    const { url } = await start();
    const [run, other] = [await startRun(url, "echo"), await startRun(url, "echo")];
    const [, first] = await read(url, other);
    for (const place of [first?.id ?? "", `${run}:999`, `${run}:x`, `${run}`, ":1", "1"]) {
      const response = await ask(url, run, place);
      expect([place, response.status, (await failureOf(response)).code]).toEqual([place, 400, "CURSOR_INVALID"]);
    }
  });

  test("does not exist for a stranger", async () => {
    const { url } = await start({ authenticate: byHeader });
    const run = await startRun(url, "parrot", { prompt: "hello" }, { "x-user": "shop/ann" });
    const status = async (user: string) => (await fetch(`${url}/v1/runs/${run}/ui`, { headers: { "x-user": user } })).status;
    expect([await status("shop/bob"), await status("other/ann/operator"), await status("shop/ann")]).toEqual([404, 404, 200]);
  });
});
