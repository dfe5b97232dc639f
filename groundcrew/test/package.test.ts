/** The published package, built and packed as for a release and installed the way a user gets it, without a registry. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { errorCodes } from "../src/errors.ts";

const root = join(import.meta.dirname, "../..");
const home = join(root, "groundcrew");
const manifest = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));

/** Everything a user downloads of ours: 1.56 MB with both stores, the fault layer and human supervision. A jump here is a file that slipped in. */
const MAX_UNPACKED_BYTES = 1.75 * 1024 * 1024;

/** Another one needs its line in `docs/decisions/0001-one-package-and-its-dependencies.md`. */
const DEPENDENCIES = ["@hono/node-server", "@hono/zod-openapi", "canonicalize", "devalue", "eventsource-parser", "hono", "jose", "ms"];
const PEERS = ["ai", "zod"];
const OPTIONAL_PEERS = ["nodemailer", "pg"];

const work = mkdtempSync(join(tmpdir(), "groundcrew-package-"));
const installed = join(work, "user/node_modules/groundcrew");
let tarball: Buffer;
let files: string[];
let unpackedBytes: number;

beforeAll(() => {
  const copy = join(work, "groundcrew");
  cpSync(home, copy, { recursive: true, filter: (path) => !["dist", "node_modules"].includes(basename(path)) });
  execFileSync(process.execPath, [join(root, "scripts/build.ts"), join(copy, "dist")], { stdio: "inherit" });

  const [packed] = JSON.parse(execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--offline"], { cwd: copy, encoding: "utf8" }));
  tarball = readFileSync(join(copy, packed.filename));
  files = packed.files.map((file: { path: string }) => file.path);
  unpackedBytes = packed.unpackedSize;
  install();
}, 60_000);

afterAll(() => rmSync(work, { recursive: true, force: true }));

/** Beside it stands what it declares and nothing else, so that an undeclared import fails here and not at a user's. */
function install(): void {
  const contents = createPackageFromTarballData(tarball);
  for (const path of contents.listFiles()) {
    const target = join(work, "user", path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, contents.readFile(path));
  }
  for (const name of [...DEPENDENCIES, ...PEERS]) {
    const link = join(work, "user/node_modules", name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(root, "node_modules", name), link);
  }
}

const entries: string[] = Object.keys(manifest.exports).filter((entry) => entry !== "./package.json");

describe("the package", () => {
  test.each(entries)("entry %s loads with nothing but the declared dependencies", (entry) => {
    const name = entry.replace(".", "groundcrew");
    const script = `const entry = await import(${JSON.stringify(name)}); console.log(Object.keys(entry).length)`;
    const exported = execFileSync(process.execPath, ["--input-type=module", "-e", script], { cwd: join(work, "user"), encoding: "utf8" });
    expect(Number(exported)).toBeGreaterThan(0);
  });

  test("has types that resolve wherever the code does", async () => {
    const result = await checkPackage(createPackageFromTarballData(tarball));
    // ESM only, by decision: how a CommonJS `require` or a resolver from before `exports` sees it does not count.
    const outside = ["node10", "node16-cjs"];
    const problems = "problems" in result ? result.problems : ["it has no types"];
    expect(problems.filter((problem) => !outside.includes((problem as { resolutionKind?: string }).resolutionKind ?? ""))).toEqual([]);
  });

  test("has a manifest that publint finds nothing in", async () => {
    const { messages, pkg } = await publint({ pkgDir: installed, pack: false, strict: true, level: "warning" });
    expect(messages.map((message) => formatMessage(message, pkg, { color: false }))).toEqual([]);
  });

  test("has a README that names the entries that there are, and no others", () => {
    const readme = readFileSync(join(home, "README.md"), "utf8");
    const named = [...readme.matchAll(/^\| `(groundcrew[^`]*)` \|/gm)].map(([, name = ""]) => name.replace("groundcrew", "."));
    expect(named.sort()).toEqual([...entries].sort());
  });

  test("prints the page about an error where it is installed", () => {
    expect(errorCodes.filter((code) => !files.includes(`dist/errors/${code}.md`))).toEqual([]);
    const help = [join(installed, "dist/cli/main.js"), "help", "SESSION_BUSY"];
    expect(execFileSync(process.execPath, help, { cwd: work, encoding: "utf8" })).toMatch(/^# SESSION_BUSY\n(.*\n)+## What to do/);
  });

  test("holds the build, its README and its licence, and nothing else", () => {
    const others = files.filter((path) => !/^dist\/(.+\.(js|d\.ts)|errors\/[A-Z_]+\.md)$/.test(path));
    expect(others.sort()).toEqual(["LICENSE", "README.md", "package.json"]);
  });

  test("stays small", () => {
    console.log(
      `package: ${files.length} files, ${(tarball.length / 1024).toFixed(0)} KB packed, ${(unpackedBytes / 1024).toFixed(0)} KB unpacked`,
    );
    expect(unpackedBytes).toBeLessThan(MAX_UNPACKED_BYTES);
  });

  test("carries the licence of the repository", () => {
    expect(readFileSync(join(home, "LICENSE"), "utf8")).toBe(readFileSync(join(root, "LICENSE"), "utf8"));
  });
});

describe("its dependencies", () => {
  const decision = readFileSync(join(root, "docs/decisions/0001-one-package-and-its-dependencies.md"), "utf8");

  test("are the few that were decided on", () => {
    expect(Object.keys(manifest.dependencies).sort()).toEqual(DEPENDENCIES);
    expect(Object.keys(manifest.peerDependencies).sort()).toEqual([...PEERS, ...OPTIONAL_PEERS].sort());
    expect(Object.keys(manifest.peerDependenciesMeta)).toEqual(OPTIONAL_PEERS);
  });

  test.each([...DEPENDENCIES, ...PEERS, ...OPTIONAL_PEERS])("%s has its reason in the decision", (name) => {
    expect(decision).toContain(`| \`${name}\` |`);
  });

  test("run nothing when they are installed", () => {
    const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
    const scripted = DEPENDENCIES.filter((name) => lock.packages[`node_modules/${name}`].hasInstallScript);
    expect(scripted).toEqual([]);
  });

  test("are locked by their content, without naming a registry", () => {
    const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
    const fetched = Object.entries<{ link?: boolean; integrity?: string; resolved?: string }>(lock.packages).filter(
      ([path, entry]) => path.includes("node_modules/") && !entry.link,
    );
    expect(fetched.filter(([, { integrity }]) => !integrity?.startsWith("sha512-")).map(([path]) => path)).toEqual([]);
    expect(fetched.filter(([, { resolved }]) => resolved).map(([path]) => path)).toEqual([]);
  });
});
