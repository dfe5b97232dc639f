/** Mails, taken by a real mail server. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { isError } from "../../src/errors.ts";
import { verdict } from "../../src/fault/verdict.ts";
import { email, type OutgoingMail } from "../../src/notify/email.ts";
import type { Verdict } from "../../src/persistence/approval.ts";
import { ana, approvalRow, bo, HOSTILE, never, noticeOf } from "./ground.ts";
import { mailServer, type Received, readHeader } from "./smtp.ts";

const FROM = "Groundcrew <crew@example.com>";

async function failure(sending: Promise<void>) {
  const error = await sending.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!isError(error, "NOTIFY_FAILED")) throw new Error(`Expected NOTIFY_FAILED, got ${String(error)}`);
  return { message: error.message, ...verdict(error, 0).failure };
}

/** What a browser would show of it: no tag is left, entities are characters. */
function seen(html: string): string {
  return html
    .replace(/<\/(tr|h\d|p|pre)>/g, "\n")
    .replace(/<[^>]*>/g, " ")
    .replace(
      /&(lt|gt|quot|#39|#96|amp);/g,
      (_all, name: string) => ({ lt: "<", gt: ">", quot: '"', "#39": "'", "#96": "`", amp: "&" })[name] ?? "",
    );
}

describe("a mail", () => {
  test("goes to each person alone, with links that are theirs", async () => {
    const { url, received } = await mailServer();
    await email({ from: FROM, transport: url }).send(noticeOf({ people: [ana, bo] }), never);
    expect(received.map(({ to }) => to)).toEqual([["ana@example.com"], ["bo@example.com"]]);
    const [first, second] = received as [Received, Received];
    for (const part of [first.text, first.html]) {
      expect(part).toContain("https://agents.example.com/v1/link/run1.1-ana");
      expect(part).not.toContain("run1.1-bo");
    }
    expect(second.text).toContain("run1.1-bo");
    expect(second.text).not.toContain("run1.1-ana");
    expect(first.from).toBe("crew@example.com");
    expect(first.headers.get("auto-submitted")).toBe("auto-generated");
    expect(first.headers.get("subject")).toBe("support asks to call refund");
  });

  test("says in both forms what is asked, why, for whom, until when", async () => {
    const { url, received } = await mailServer();
    await email({ from: FROM, transport: url }).send(noticeOf(), never);
    const [{ text, html }] = received as [Received];
    for (const part of [text, seen(html)]) {
      for (const said of [
        "support asks to call refund",
        "more than 100",
        "customer",
        "role:finance",
        '"amount": 120',
        "My order is broken.",
      ])
        expect(part).toContain(said);
    }
  });

  test.each(Object.entries(HOSTILE))("%s has no effect wherever it comes from, and is shown whole", async (_name, hostile) => {
    const { url, received } = await mailServer();
    const input = { [hostile]: hostile };
    const request = { input, name: hostile, agent: hostile, why: hostile, user: hostile, context: [hostile] };
    await email({ from: FROM, transport: url }).send(noticeOf({ approvals: [approvalRow({ request })] }), never);
    expect(received).toHaveLength(1);
    const [{ text, html, headers, to }] = received as [Received];
    expect(to).toEqual(["ana@example.com"]);
    expect([...headers.keys()].sort()).toEqual(
      [
        "auto-submitted",
        "content-type",
        "date",
        "from",
        "message-id",
        "mime-version",
        "subject",
        "to",
        "x-auto-response-suppress",
        "x-groundcrew-delivery",
      ].sort(),
    );
    expect(readHeader(headers.get("subject"))).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    const tags = new Set([...html.matchAll(/<\/?([a-z0-9!]+)/g)].map(([, tag]) => tag));
    expect([...tags].sort()).toEqual(
      ["!doctype", "a", "body", "h2", "h3", "head", "hr", "html", "meta", "p", "pre", "table", "td", "th", "title", "tr"].sort(),
    );
    expect([...html.matchAll(/(?:href|src)="([^"]*)"/g)].map(([, address]) => address)).toEqual([
      "https://agents.example.com/v1/link/run1.1-ana",
    ]);
    for (const part of [text, seen(html)]) {
      expect(part.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
      const shown = part.replace(/⟨U\+([0-9A-F]+)⟩/g, (_all, hex) => String.fromCodePoint(Number.parseInt(hex, 16)));
      expect(shown).toContain(JSON.stringify(input, null, 2));
    }
  });

  test("shows 100,000 characters whole", async () => {
    const { url, received } = await mailServer();
    const text = "<ö💥&>".repeat(20_000);
    await email({ from: FROM, transport: url }).send(noticeOf({ approvals: [approvalRow({ request: { input: { text } } })] }), never);
    const [mail] = received as [Received];
    for (const part of [mail.text, seen(mail.html)]) expect(part).toContain(JSON.stringify({ text }, null, 2));
  });

  test("of several asked for together is one mail, with a link for each", async () => {
    const { url, received } = await mailServer();
    const approvals = [1, 2].map((n) => approvalRow({ id: `run1.${n}` }));
    await email({ from: FROM, transport: url }).send(noticeOf({ approvals }), never);
    expect(received).toHaveLength(1);
    expect(received[0]?.text).toMatch(/link\/run1\.1-ana[\s\S]*link\/run1\.2-ana/);
  });

  test("without a server says how it is decided, and has no link", async () => {
    const { url, received } = await mailServer();
    await email({ from: FROM, transport: url }).send(noticeOf({ url: undefined, link: () => undefined }), never);
    const [{ text, html }] = received as [Received];
    expect(text).toContain("groundcrew approve run1.1 decides it");
    expect(text).not.toContain("A link is yours");
    expect(html).not.toContain("href");
  });

  test("about an end says who has decided", async () => {
    const { url, received } = await mailServer();
    const end: Verdict = { outcome: "approved", by: ["ana", "bo"], at: 5_000, channel: "cli", hash: "hash-2", input: { amount: 90 } };
    const notice = noticeOf({ about: "ended", approvals: [approvalRow({ status: "approved", verdict: end })], link: () => undefined });
    await email({ from: FROM, transport: url }).send(notice, never);
    expect(received[0]?.text).toContain("approved by ana and bo at 1970-01-01T00:00:05.000Z (cli)");
    expect(received[0]?.text).toContain('"amount": 90');
    expect(received[0]?.text).not.toContain("groundcrew approve");
  });

  test("has the same id for every try, and another for every person and every piece of news", async () => {
    const { url, received } = await mailServer();
    const send = (more: object) => email({ from: FROM, transport: url }).send(noticeOf(more), never);
    await send({});
    await send({ at: 1 });
    await send({ people: [bo] });
    await send({ id: "email/reminded/run1.1/1" });
    const ids = received.map(({ headers }) => headers.get("message-id"));
    expect(ids[0]).toMatch(/^<[\w.]+@example\.com>$/);
    expect(ids[1]).toBe(ids[0]);
    expect(new Set(ids).size).toBe(3);
  });
});

describe("a mail that is not taken", () => {
  test("does not keep the others from getting theirs, and is not given up", async () => {
    const { url, received } = await mailServer((address) => (address.startsWith("ana") ? { code: 550, text: "no such user" } : undefined));
    const sent = await failure(email({ from: FROM, transport: url }).send(noticeOf({ people: [ana, bo] }), never));
    expect(received.map(({ to }) => to)).toEqual([["bo@example.com"]]);
    expect(sent).toMatchObject({ chance: "never", message: expect.stringContaining("ana (") });
  });

  test("is tried again for those only who do not have it", async () => {
    let isFull = true;
    const { url, received } = await mailServer((address) =>
      isFull && address.startsWith("bo") ? { code: 452, text: "mailbox full" } : undefined,
    );
    const channel = email({ from: FROM, transport: url });
    const notice = noticeOf({ people: [ana, bo] });
    expect(await failure(channel.send(notice, never))).toMatchObject({ chance: "again" });
    isFull = false;
    await channel.send(notice, never);
    expect(received.map(({ to }) => to)).toEqual([["ana@example.com"], ["bo@example.com"]]);
  });

  test("because the server is not there is tried again", async () => {
    expect(await failure(email({ from: FROM, transport: "smtp://127.0.0.1:1" }).send(noticeOf(), never))).toMatchObject({
      chance: "again",
    });
  });

  test("by a server that says nothing is let go when nobody waits any more", async () => {
    const silent = createServer();
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void silent.close());
    const { port } = silent.address() as { port: number };
    const stop = new AbortController();
    const sending = failure(email({ from: FROM, transport: `smtp://127.0.0.1:${port}` }).send(noticeOf(), stop.signal));
    connect(port, "127.0.0.1").once("connect", function (this: { destroy(): void }) {
      this.destroy();
      stop.abort();
    });
    await sending;
  });

  test("because nobody has an address says so", async () => {
    const { url } = await mailServer();
    const { user, tenant, roles } = ana;
    const sent = await failure(email({ from: FROM, transport: url }).send(noticeOf({ people: [{ user, tenant, roles }] }), never));
    expect(sent).toMatchObject({ chance: "never", message: expect.stringContaining("nobody") });
  });

  test("does not tell the password", async () => {
    const { url } = await mailServer(() => ({ code: 550, text: "no" }));
    const transport = url.replace("smtp://", "smtp://crew:hunter2@");
    const { message } = await failure(email({ from: FROM, transport }).send(noticeOf(), never));
    expect(message).not.toContain("hunter2");
  });
});

describe("the settings of e-mail", () => {
  test("beyond this machine nothing is sent without encryption, unless the address says so", async () => {
    const { url, received } = await mailServer(); // it offers no encryption
    const elsewhere = url.replace("127.0.0.1", "0.0.0.0"); // leads here, and is no address of this machine alone
    expect(await failure(email({ from: FROM, transport: elsewhere }).send(noticeOf(), never))).toMatchObject({ chance: "never" });
    expect(received).toEqual([]);
    await email({ from: FROM, transport: `${elsewhere}?requireTLS=false` }).send(noticeOf(), never);
    expect(received).toHaveLength(1);
  });

  test("without its package is refused at once, with what to do; with a transport of one's own nothing is missing", () => {
    const folder = mkdtempSync(join(tmpdir(), "groundcrew-no-mail-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const [root, packages] = [join(import.meta.dirname, "../.."), join(import.meta.dirname, "../../../node_modules")];
    cpSync(join(root, "src"), join(folder, "src"), { recursive: true });
    cpSync(join(root, "package.json"), join(folder, "package.json"));
    mkdirSync(join(folder, "node_modules"));
    for (const name of readdirSync(packages).filter((name) => name !== "nodemailer" && !name.startsWith(".")))
      symlinkSync(join(packages, name), join(folder, "node_modules", name));
    const script = `
      import { email } from "./src/notify/email.ts";
      console.log(email({ from: "a@b.example", transport: { sendMail: async () => {} } }).name);
      try { email({ from: "a@b.example", transport: "smtp://127.0.0.1" }) } catch (error) { console.log(error.code, error.message) }
    `;
    const { stdout } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], { cwd: folder, encoding: "utf8" });
    expect(stdout).toMatch(/^email\nCONFIG_INVALID .*npm install nodemailer/);
  });

  test("a transport of one's own is given the whole mail", async () => {
    const mails: OutgoingMail[] = [];
    await email({ from: FROM, transport: { sendMail: async (mail) => void mails.push(mail) } }).send(noticeOf(), never);
    expect(mails).toMatchObject([{ from: FROM, to: [{ name: "", address: "ana@example.com" }], subject: "support asks to call refund" }]);
  });

  test.each([
    { from: "nobody" },
    { from: "a@b.example\r\nBcc: c@d.example" },
    { transport: "https://mail.example.com" },
    { transport: "smtp://" },
    { transport: "hunter2" },
    { transport: {} as never },
    { name: "" },
  ])("%j is refused", (bad) => {
    const make = () => email({ from: FROM, transport: "smtp://127.0.0.1", ...bad });
    expect(make).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
    expect(make).not.toThrow("hunter2");
  });
});
