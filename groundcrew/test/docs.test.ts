/** The documents, as far as a program can check them. */
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");
const pages = globSync(["*.md", "docs/**/*.md", "examples/*.md", "bench/*.md"], { cwd: root }).map((path) => path.replaceAll("\\", "/"));
const read = (page: string) => readFileSync(join(root, page), "utf8");

/** As GitHub makes them. */
function anchorsOf(page: string): string[] {
  const headings = [...read(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) => heading);
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

function brokenLinks(page: string): string[] {
  const targets = [...read(page).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target = ""]) => target)
    .filter((target) => !/^[a-z]+:/.test(target));
  return targets.filter((target) => {
    const [path = "", anchor] = target.split("#");
    const file = path === "" ? page : join(dirname(page), path);
    if (!existsSync(join(root, file))) return true;
    return anchor !== undefined && !anchorsOf(file).includes(anchor);
  });
}

describe("the documents", () => {
  test.each(pages.sort())("%s links to what is there", (page) => {
    expect(brokenLinks(page)).toEqual([]);
  });

  test("name only npm scripts that exist", () => {
    const scripts = (file: string) => Object.keys(JSON.parse(read(file)).scripts ?? {});
    const known = { root: scripts("package.json"), examples: scripts("examples/package.json") };
    const named = pages.flatMap((page) => [...read(page).matchAll(/npm run (?:-s )?([a-z][\w-]*)( -w examples)?/g)]);
    expect(named.length).toBeGreaterThan(0);
    expect(named.filter(([, script = "", inExamples]) => !known[inExamples ? "examples" : "root"].includes(script)).map(String)).toEqual(
      [],
    );
  });
});
