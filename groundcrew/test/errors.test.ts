/** The table of error codes and the pages about them say the same. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { errorCodes, GroundcrewError } from "../src/errors.ts";

const folder = join(import.meta.dirname, "../../docs/errors");
const SECTIONS = ["Meaning", "Why it happens", "What to do", "What the user sees"];

const page = (name: string) => readFileSync(join(folder, `${name}.md`), "utf8");
const pages = readdirSync(folder).map((file) => file.replace(/\.md$/, ""));

/** Heading → the text under it. */
function sectionsOf(text: string): Map<string, string> {
  const [, ...sections] = text.split(/^## /m);
  return new Map(sections.map((section) => [section.slice(0, section.indexOf("\n")), section.slice(section.indexOf("\n")).trim()]));
}

describe.each(errorCodes)("%s", (code) => {
  const error = new GroundcrewError(code, "detail");

  test("has a page with its status, and something to say under each heading", () => {
    const text = page(code);
    expect(text.startsWith(`# ${code}\n\nHTTP status ${error.status}\n`)).toBe(true);
    const sections = sectionsOf(text);
    expect([...sections.keys()]).toEqual(SECTIONS);
    for (const [heading, body] of sections) expect(body, heading).not.toBe("");
  });

  test("shows its user the sentence that the page promises", () => {
    expect(sectionsOf(page(code)).get("What the user sees")).toBe(`> ${error.userMessage}`);
  });

  test("does not let the operator's detail into the user's sentence", () => {
    const secret = new GroundcrewError(code, "password is hunter2", { value: "hunter2", fix: "hunter2", cause: new Error("hunter2") });
    expect(secret.userMessage).not.toContain("hunter2");
  });
});

test("no page is left of a code that is gone", () => {
  expect(pages.filter((name) => name !== "README").sort()).toEqual([...errorCodes].sort());
});

test("the index lists every code with its status, in the order of the table", () => {
  const listed = [...page("README").matchAll(/^\| \[(\w+)\]\((\w+)\.md\) \| (\d+) \|/gm)].map(([, code, file, status]) => [
    code,
    file,
    Number(status),
  ]);
  expect(listed).toEqual(errorCodes.map((code) => [code, code, new GroundcrewError(code, "").status]));
});

test("every link between the pages leads somewhere", () => {
  const broken = pages.flatMap((name) =>
    [...page(name).matchAll(/\]\(([A-Z_]+)\.md\)/g)]
      .filter(([, target]) => !pages.includes(target ?? ""))
      .map(([link]) => `${name}: ${link}`),
  );
  expect(broken).toEqual([]);
});
