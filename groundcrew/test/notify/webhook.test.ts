/** Webhooks, heard by a real server. */
import { createHmac } from "node:crypto";
import { describe, expect, test, vi } from "vitest";
import { isError } from "../../src/errors.ts";
import { verdict } from "../../src/fault/verdict.ts";
import { MAX_ANSWER_BYTES } from "../../src/limits.ts";
import { webhook } from "../../src/notify/webhook.ts";
import { until } from "../support/until.ts";
import { approvalRow, type Heard, HOSTILE, listen, never, noticeOf, serve, status } from "./ground.ts";

/** Of the specification's own example. */
const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const KEY = Buffer.from(SECRET.slice("whsec_".length), "base64");

/** As the specification tells a receiver to. */
function isSigned({ headers, body }: Heard, key = KEY): boolean {
  const said = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
  return headers["webhook-signature"] === `v1,${createHmac("sha256", key).update(said).digest("base64")}`;
}

async function failure(sending: Promise<void>) {
  const error = await sending.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!isError(error, "NOTIFY_FAILED")) throw new Error(`Expected NOTIFY_FAILED, got ${String(error)}`);
  return { message: error.message, ...verdict(error, 0).failure };
}

describe("a webhook", () => {
  test("tells all of it, signed so that the receiver knows who has sent it", async () => {
    const { url, heard } = await listen(status(204));
    const notice = noticeOf();
    await webhook({ url: `${url}/hook?x=1`, secret: SECRET }).send(notice, never);
    const [first] = heard as [Heard];
    expect(first.path).toBe("/hook?x=1");
    expect(first.headers).toMatchObject({
      "content-type": "application/json",
      "webhook-id": notice.id,
      "webhook-timestamp": "1614265330",
    });
    expect(isSigned(first)).toBe(true);
    expect(isSigned({ ...first, body: `${first.body} ` })).toBe(false);
    expect(isSigned(first, Buffer.from("another"))).toBe(false);
    const { type, data } = JSON.parse(first.body);
    expect(type).toBe("approval.requested");
    expect(data).toMatchObject({
      approvals: [
        { id: "run1.1", status: "open", request: { input: { order: "o1", amount: 120 }, hash: "hash-1" }, proposal: { hash: "hash-1" } },
      ],
      people: ["ana"],
      server: "https://agents.example.com",
    });
  });

  test("signs as the specification's example does", () => {
    const example = createHmac("sha256", KEY).update('msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}').digest("base64");
    expect(example).toBe("g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
  });

  test("has the same id for every try, and a time and a signature of each", async () => {
    const { url, heard } = await listen(status(500), status(200));
    const channel = webhook({ url, secret: SECRET });
    await failure(channel.send(noticeOf(), never));
    await channel.send(noticeOf({ at: 1_614_351_730_000 }), never);
    expect(heard.map(({ headers }) => headers["webhook-id"])).toEqual(["webhook/requested/run1.1", "webhook/requested/run1.1"]);
    expect(heard.map(({ headers }) => headers["webhook-timestamp"])).toEqual(["1614265330", "1614351730"]);
    expect(heard.every((one) => isSigned(one))).toBe(true);
  });

  test("does not say who has voted how so far", async () => {
    const { url, heard } = await listen(status(200));
    const votes = [{ by: "bo", roles: [], hash: "hash-1", at: 1, channel: "api" as const, reason: "between us" }];
    await webhook({ url, secret: SECRET }).send(noticeOf({ approvals: [approvalRow({ votes })] }), never);
    expect(heard[0]?.body).not.toContain("between us");
    expect(JSON.parse(heard[0]?.body ?? "").data.approvals[0]).toMatchObject({ agreed: 1 });
  });

  test("hostile arguments arrive as the data they are", async () => {
    const { url, heard } = await listen(status(200));
    await webhook({ url, secret: SECRET }).send(noticeOf({ approvals: [approvalRow({ request: { input: HOSTILE } })] }), never);
    expect(JSON.parse(heard[0]?.body ?? "").data.approvals[0].request.input).toEqual(HOSTILE);
  });
});

describe("what an endpoint answers", () => {
  test.each([
    [400, "never"],
    [401, "never"],
    [404, "never"],
    [408, "again"],
    [410, "never"],
    [425, "again"],
    [429, "again"],
    [500, "again"],
    [503, "again"],
  ] as const)("%i: tried again %s", async (code, chance) => {
    const { url } = await listen(status(code, {}, "no"));
    expect(await failure(webhook({ url, secret: SECRET }).send(noticeOf(), never))).toMatchObject({ status: code, chance });
  });

  test("with a Retry-After is not asked before", async () => {
    const { url } = await listen(status(503, { "retry-after": "120" }));
    expect(await failure(webhook({ url, secret: SECRET }).send(noticeOf(), never))).toMatchObject({ chance: "later", at: 120_000 });
  });

  test("a redirect is not followed", async () => {
    const elsewhere = await listen(status(200));
    const { url, heard } = await listen(status(307, { location: elsewhere.url }));
    const { message } = await failure(webhook({ url, secret: SECRET }).send(noticeOf(), never));
    expect(message).toContain("redirect");
    expect([heard.length, elsewhere.heard.length]).toEqual([1, 0]);
  });

  test("without an end is not read to it", async () => {
    let sent = 0;
    let isCut = false;
    const url = await serve((request, response) => {
      request.resume();
      response.on("close", () => {
        isCut = true;
      });
      const more = () => {
        while (!isCut && response.write(Buffer.alloc(16_384, "x"))) sent += 16_384;
      };
      response.writeHead(200).on("drain", more);
      more();
    });
    await webhook({ url, secret: SECRET }).send(noticeOf(), never);
    await until("the connection is cut", () => isCut);
    expect(sent).toBeGreaterThanOrEqual(MAX_ANSWER_BYTES);
    expect(sent).toBeLessThan(64 * 1024 * 1024);
  });

  test("that does not come is waited for ten seconds", async () => {
    const asked: number[] = [];
    const real = AbortSignal.timeout.bind(AbortSignal);
    vi.spyOn(AbortSignal, "timeout").mockImplementation((ms) => {
      asked.push(ms);
      return real(50);
    });
    const url = await serve((request) => request.resume());
    expect(await failure(webhook({ url, secret: SECRET }).send(noticeOf(), never))).toMatchObject({ chance: "again", reason: "timeout" });
    expect(asked).toEqual([10_000]);
    vi.restoreAllMocks();
  });

  test("a server that is not there is tried again", async () => {
    const url = "http://127.0.0.1:1";
    expect(await failure(webhook({ url, secret: SECRET }).send(noticeOf(), never))).toMatchObject({ chance: "again", reason: "network" });
  });

  test("who stops is not kept", async () => {
    const url = await serve((request) => request.resume());
    const stop = new AbortController();
    const sending = failure(webhook({ url, secret: SECRET }).send(noticeOf(), stop.signal));
    stop.abort();
    await sending;
  });
});

describe("the settings of a webhook", () => {
  test.each([
    "http://example.com/hook",
    "http://127.0.0.1.evil.example",
    "http://localhost.evil.example",
    "ftp://127.0.0.1",
    "https://user:hunter2@example.com",
    "nonsense",
    "",
  ])("%s is refused, because others could read it or it is no address", (url) => {
    const make = () => webhook({ url, secret: SECRET });
    expect(make).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
    expect(make).not.toThrow("hunter2");
  });

  test.each(["https://example.com/hook", "http://localhost:8080", "http://127.0.0.1:9", "http://[::1]:9"])("%s is taken", (url) => {
    expect(webhook({ url, secret: SECRET }).name).toBe("webhook");
  });

  test.each([
    "",
    "hunter2",
    "whsec_",
    "whsec_c2hvcnQ=",
    `whsec_${Buffer.alloc(65).toString("base64")}`,
    "whsec_not base64 at all, is it now?",
  ])("the secret %j is refused, and not told", (secret) => {
    const make = () => webhook({ url: "https://example.com", secret });
    expect(make).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
    expect(make).not.toThrow("hunter2");
  });
});
