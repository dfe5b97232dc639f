/** What channels are told, and a real server on this machine that hears them. */
import { createServer, type IncomingHttpHeaders, type RequestListener, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import type { Notice, Recipient } from "../../src/notify/channel.ts";
import { type ApprovalRequest, type ApprovalRow, proposal } from "../../src/persistence/approval.ts";

/** What must have no effect wherever it is shown. */
export const HOSTILE = {
  html: "<script>alert(1)</script><img src=\"https://evil.example/x.png\" onerror='go()'>",
  slack: "<!channel> <@U024BE7LH> <https://evil.example|your bank> @channel *bold* _it_ :bomb: &lt;",
  markdown: "[click](https://evil.example) ![x](https://evil.example/x.png)",
  bidi: "invoice\u202egnp.exe",
  hidden: "ana\u200d@example.com\u2066\u{e0041}",
  terminal: "\u001b[2J\u0007",
  lines: "a\r\nBcc: everybody@example.com\u2028b",
};

export function approvalRow(more: Partial<Omit<ApprovalRow, "request">> & { request?: Partial<ApprovalRequest> } = {}): ApprovalRow {
  const { request, ...rest } = more;
  return {
    id: "run1.1",
    run: "run1",
    tenant: "default",
    status: "open",
    version: 1,
    level: 0,
    to: ["role:finance"],
    requestedAt: 1_000,
    expiresAt: 1_000_000,
    votes: [],
    verdict: null,
    ...rest,
    request: {
      kind: "tool",
      name: "refund",
      step: "tool:1",
      agent: "support",
      session: null,
      user: "customer",
      input: { order: "o1", amount: 120 },
      hash: "hash-1",
      tool: "t",
      rules: "r",
      why: "more than 100",
      spent: { modelSteps: 1, inputTokens: 2, outputTokens: 3 },
      context: ["user: My order is broken."],
      quorum: 1,
      selfApproval: false,
      onExpire: "deny",
      ...request,
    },
  };
}

export const ana: Recipient = { tenant: "default", user: "ana", roles: ["finance"], slack: "U024BE7LH", email: "ana@example.com" };
export const bo: Recipient = { tenant: "default", user: "bo", roles: ["finance"], email: "bo@example.com" };

export function noticeOf(more: Partial<Notice> = {}): Notice {
  return {
    id: "webhook/requested/run1.1",
    about: "requested",
    approvals: [approvalRow()],
    people: [ana],
    url: "https://agents.example.com",
    at: 1_614_265_330_000,
    proposal,
    link: (approval, { user }) => `https://agents.example.com/v1/link/${approval.id}-${user}`,
    ...more,
  };
}

export interface Heard {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}

/** Answers requests one after the other; the last answer is for all that follow. */
export async function listen(...answers: ((response: ServerResponse, heard: Heard) => void)[]): Promise<{ url: string; heard: Heard[] }> {
  const heard: Heard[] = [];
  const url = await serve(async (request, response) => {
    let body = "";
    for await (const part of request.setEncoding("utf8")) body += part;
    const one = { path: request.url ?? "", headers: request.headers, body };
    heard.push(one);
    const answer = answers[Math.min(heard.length, answers.length) - 1];
    if (answer) answer(response, one);
    else response.end();
  });
  return { url, heard };
}

export async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export const status =
  (code: number, headers: Record<string, string> = {}, body = "") =>
  (response: ServerResponse): void => {
    response.writeHead(code, headers).end(body);
  };

/** Nobody waits. */
export const never = new AbortController().signal;
