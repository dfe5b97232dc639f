/** From what somebody wrote where a store is expected to the store, or to a sentence. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { fileOf, isPostgres, openStore } from "../src/store.ts";

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "groundcrew-"));
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

describe("a store", () => {
  test.each([
    ["a path", (file: string) => file],
    ["a file URL with slashes", (file: string) => `file://${file}`],
    ["a file URL without", (file: string) => `file:${file}`],
  ])("named by %s is that file", async (_, write) => {
    const file = join(directory, "crew.db");
    const store = await openStore(write(file));
    await store.close();
    expect(store.location).toBe(file);
    expect(existsSync(file)).toBe(true);
  });

  test("that nobody named is the one of the environment", async () => {
    const file = join(directory, "from-env.db");
    vi.stubEnv("DATABASE_URL", `file:${file}`);
    const store = await openStore(undefined);
    await store.close();
    expect(existsSync(file)).toBe(true);
  });

  test("that is given is given back", async () => {
    const store = await openStore(join(directory, "crew.db"));
    expect(await openStore(store)).toBe(store);
    await store.close();
  });

  test.each(["mysql://root:hunter2@host/db", "http://host", "sqlite://crew.db"])(
    "at %s is refused without telling a password",
    (location) => {
      const open = () => fileOf(location);
      expect(open).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
      expect(open).not.toThrow(/hunter2/);
    },
  );

  test("is in PostgreSQL by its scheme alone", () => {
    expect(["postgres://h/d", "postgresql://h/d", "POSTGRES://h/d"].every(isPostgres)).toBe(true);
    expect(["postgres.db", "./postgres/crew.db", "file:postgres://x"].some(isPostgres)).toBe(false);
  });
});

test("PostgreSQL without its driver is a sentence that says what to install", () => {
  const store = pathToFileURL(join(import.meta.dirname, "../src/store.ts")).href;
  const script = `
    import { registerHooks } from "node:module";
    const missing = Object.assign(new Error("Cannot find package 'pg' imported from /app/open.js"), { code: "ERR_MODULE_NOT_FOUND" });
    registerHooks({ resolve(name, context, next) { if (name === "pg") throw missing; return next(name, context); } });
    const { openStore } = await import(${JSON.stringify(store)});
    const error = await openStore("postgres://127.0.0.1:1/none").catch((error) => error);
    console.log(JSON.stringify({ code: error.code, message: error.message }));
    const file = await openStore(${JSON.stringify(join(directory, "crew.db"))});
    await file.close();`;
  const said = JSON.parse(execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" }));
  expect(said).toEqual({
    code: "CONFIG_INVALID",
    message: "A store in PostgreSQL needs the package `pg`, which is not installed. Run `npm install pg`.",
  });
});
