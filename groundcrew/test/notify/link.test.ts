import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { isError } from "../../src/errors.ts";
import { type Link, makeLink, readLink } from "../../src/notify/link.ts";

const SECRET = "0123456789abcdef0123456789abcdef";
const LINK: Link = { approval: "run1.1", user: "ana", tenant: "default", delivery: "email/requested/run1.1", expires: 2_000 };

function codeOf(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    return isError(error) ? error.code : String(error);
  }
  return "read";
}

describe("a link", () => {
  test("says who may decide what, until when", () => {
    expect(readLink(makeLink(SECRET, LINK), SECRET, 1_999)).toEqual(LINK);
  });

  test("stands in an address as it is", () => {
    expect(makeLink(SECRET, { ...LINK, user: "ana/ö?&#💥" })).toMatch(/^[\w.-]+$/);
  });

  test("runs out", () => {
    expect(codeOf(() => readLink(makeLink(SECRET, LINK), SECRET, 2_000))).toBe("LINK_INVALID");
  });

  test("is refused with any one character changed, left out or put in", () => {
    const token = makeLink(SECRET, LINK);
    for (let at = 0; at < token.length; at++) {
      const other = token[at] === "A" ? "B" : "A";
      for (const forged of [
        token.slice(0, at) + other + token.slice(at + 1),
        token.slice(0, at) + token.slice(at + 1),
        `${token.slice(0, at)}${other}${token.slice(at)}`,
      ]) {
        expect(
          codeOf(() => readLink(forged, SECRET, 0)),
          forged,
        ).toBe("LINK_INVALID");
      }
    }
  });

  test.each([
    "",
    ".",
    "a.b",
    "..",
    `${"A".repeat(5_000)}.x`,
    "💥.💥",
    makeLink(SECRET, LINK).split(".")[0] ?? "",
    `${makeLink(SECRET, LINK)}.x`,
  ])("%j is refused, and nothing else is thrown", (token) => {
    expect(codeOf(() => readLink(token, SECRET, 0))).toBe("LINK_INVALID");
  });

  test("of another secret is refused", () => {
    expect(codeOf(() => readLink(makeLink(SECRET.toUpperCase(), LINK), SECRET, 0))).toBe("LINK_INVALID");
  });

  test("is refused where the right secret has signed another form", () => {
    const said = Buffer.from(JSON.stringify(["groundcrew.link.v0", ...Object.values(LINK)]));
    const token = `${said.toString("base64url")}.${createHmac("sha256", SECRET).update(said).digest("base64url")}`;
    expect(codeOf(() => readLink(token, SECRET, 0))).toBe("LINK_INVALID");
  });

  test("is another for whatever is another: nothing can be moved from one field into the next", () => {
    const links = [
      LINK,
      { ...LINK, user: 'ana","default' },
      { ...LINK, approval: 'run1.1","ana', user: "" },
      { ...LINK, user: "anadefault", tenant: "" },
    ];
    expect(new Set(links.map((link) => makeLink(SECRET, link))).size).toBe(links.length);
    for (const link of links) expect(readLink(makeLink(SECRET, link), SECRET, 0)).toEqual(link);
  });

  test("is not made with a secret that can be guessed", () => {
    expect(codeOf(() => makeLink("short", LINK))).toBe("CONFIG_INVALID");
    expect(codeOf(() => readLink(makeLink(SECRET, LINK), "short", 0))).toBe("CONFIG_INVALID");
  });
});
