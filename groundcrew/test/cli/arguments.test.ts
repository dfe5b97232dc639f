import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { helpText, parse } from "../../src/cli/arguments.ts";
import { commands } from "../../src/cli/commands.ts";
import { exit, exitCodeOf } from "../../src/cli/exit.ts";
import { errorCodes } from "../../src/errors.ts";
import { project } from "./command.ts";

const { directory, groundcrew, remove } = project();
afterAll(remove);

describe("a command line that is not right", () => {
  test.each([
    [["shwo", "run_1"], 'There is no command "shwo".', "Did you mean `groundcrew show`?"],
    [["canel"], 'There is no command "canel".', "Did you mean `groundcrew cancel`?"],
    [["xyzzy-plugh"], 'There is no command "xyzzy-plugh".', "`groundcrew help` lists them."],
    [["runs", "--statsu", "failed"], "`groundcrew runs` has no option --statsu.", "Did you mean --status?"],
    [["runs", "-x"], "`groundcrew runs` has no option -x.", ""],
    [["runs", "--limit"], "argument missing", "`groundcrew help runs` lists its options."],
    [["runs", "--limit", "many"], 'Expected --limit to be a whole number from 1 to 200, got "many".', ""],
    [["runs", "--status", "done"], "Expected --status to be one of queued, running,", ""],
    [["show"], "`groundcrew show` needs <run>.", "Usage: groundcrew show <run>"],
    [["show", "run_1", "run_2"], '`groundcrew show` does not take "run_2".', "Usage: groundcrew show <run>"],
    [["run", "support"], "needs either a prompt or --input", ""],
    [["run", "support", "hello", "--input", "1"], "needs either a prompt or --input", ""],
    [["run", "report", "--input", "{a:1}"], 'Expected --input to be JSON, got "{a:1}".', ""],
    [
      ["signal", "run_1", "reply", "yes"],
      'Expected the signal\'s value to be JSON, got "yes".',
      "A text is written with its quotes: '\"text\"'.",
    ],
    [["resolve", "run_1", "tool:a"], "needs happened|did-not-happen", ""],
    [["resolve", "run_1", "tool:a", "maybe"], "one of happened, did-not-happen", ""],
    [["resolve", "run_1", "tool:a", "did-not-happen", "--result", "1"], "A step that did not happen has no result.", ""],
    [["fork", "run_1"], "`groundcrew fork` needs --from.", ""],
    [["runs", "--url", "http://127.0.0.1:1", "--store", "a.db"], "--url and --store name different places.", "Give one of them."],
    [["run", "support", "hello", "--store", "a.db"], "A bare store has neither agents nor a stated retention.", ""],
    [["cleanup", "--store", "a.db"], "A bare store has neither agents nor a stated retention.", ""],
    [["serve", "--port", "70000"], "Expected --port to be a whole number from 0 to 65535", ""],
    [["serve", "--role", "leader"], "Expected --role to be one of all, api, worker", ""],
    [["runs"], "Nothing says where the runs are", "--url, --config or --store"],
    [["runs", "--config", "nope.ts"], "There is no config file", ""],
    [["runs", "--url", "ftp://x"], "Expected the address of a server", ""],
  ])("%j says what is wrong, ends with 2 and shows no stack", async (args, message, fix) => {
    const { code, out, err } = await groundcrew(...args);
    expect(code).toBe(exit.usage);
    expect(out).toBe("");
    expect(err).toMatch(/^error (INPUT|CONFIG)_INVALID: /);
    expect(err).toContain(message);
    expect(err).toContain(fix);
    expect(err).toMatch(/more: `groundcrew help (INPUT|CONFIG)_INVALID`/);
    expect(err).not.toMatch(/^\s+at /m);
  });

  test("says it as JSON to a program, and with the stack to whoever asks", async () => {
    const { err } = await groundcrew("shwo", "--json");
    expect(JSON.parse(err)).toEqual({
      error: {
        code: "INPUT_INVALID",
        message: 'There is no command "shwo".',
        fix: "Did you mean `groundcrew show`?",
        help: "groundcrew help INPUT_INVALID",
      },
    });
    expect((await groundcrew("shwo", "--debug")).err).toMatch(/^\s+at /m);
  });

  test("cannot make its error act on the terminal", async () => {
    const { err } = await groundcrew("\u001b[2J");
    expect(err).not.toContain("\u001b");
  });
});

describe("the page about an error", () => {
  test("is printed by its code, also in small letters, without links that lead nowhere", async () => {
    const { code, out } = await groundcrew("help", "session_busy");
    expect(code).toBe(0);
    expect(out).toMatch(/^# SESSION_BUSY\n/);
    expect(out).toContain("## What to do");
    expect(out).not.toContain("](");
  });

  test("is not made up for a code that does not exist", async () => {
    expect(await groundcrew("help", "SESSION_BUZY")).toMatchObject({ code: 2, out: "" });
  });
});

describe("a place that cannot be reached", () => {
  test("is told apart from a mistake, with code 69", async () => {
    expect(await groundcrew("runs", "--url", "http://127.0.0.1:9")).toMatchObject({
      code: 69,
      err: expect.stringContaining("error UNREACHABLE: "),
    });
    expect(await groundcrew("runs", "--store", "nope.db")).toMatchObject({
      code: 69,
      err: expect.stringContaining("There is no store file"),
    });
  });

  test("is not made by looking for it", async () => {
    await groundcrew("runs", "--store", "nope/nope.db");
    expect(existsSync(join(directory, "nope"))).toBe(false);
  });
});

describe("help", () => {
  test("lists every command, and explains each with its options", async () => {
    const { code, out } = await groundcrew();
    expect(code).toBe(0);
    for (const command of commands) {
      expect(out).toContain(`  ${command.name} `);
      const text = helpText(command);
      for (const option of Object.keys(command.options)) expect(text).toContain(`--${option}`);
    }
    expect((await groundcrew("help", "show")).out).toBe((await groundcrew("show", "--help")).out);
  });

  test("says its version", async () => {
    const manifest = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8"));
    expect((await groundcrew("--version")).out).toBe(`${manifest.version}\n`);
  });

  test("has every command and option in the manual, and every exit code", () => {
    const manual = readFileSync(join(import.meta.dirname, "../../../docs/cli.md"), "utf8");
    for (const command of commands) {
      expect(manual).toContain(`\`${command.name}`);
      for (const option of Object.keys(command.options)) expect(manual).toContain(`--${option}`);
    }
    for (const code of Object.values(exit)) expect(manual).toContain(`| ${code} |`);
  });
});

test("a prompt that looks like an option is taken as text behind --", () => {
  expect(parse(["run", "support", "--", "--json"])).toMatchObject({ args: ["support", "--json"] });
  expect(parse(["run", "support", "--", "--json"]).flag("json")).toBe(false);
});

test("every error code has its exit code, and none of them is success", () => {
  for (const code of errorCodes) expect(exitCodeOf(code)).toBeGreaterThan(0);
  expect(exitCodeOf("A_CODE_OF_A_NEWER_SERVER")).toBe(exit.failed);
});

describe("an older Node", () => {
  const main = readFileSync(join(import.meta.dirname, "../../src/cli/main.ts"), "utf8");

  test("gets a sentence, and nothing is loaded that it may not know", () => {
    const script = join(directory, "main.mjs");
    writeFileSync(script, stripTypeScriptTypes(main));
    const older = `data:text/javascript,Object.defineProperty(process.versions, "node", { value: "20.11.1" })`;
    const { status, stderr, stdout } = spawnSync(process.execPath, ["--import", older, script, "runs"], { encoding: "utf8" });
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toBe(
      "error: Groundcrew needs Node 24 or newer, this is Node 20.11.1.\n" +
        "Install a newer one (https://nodejs.org) or choose it with your version manager, e.g. `nvm use 24`.\n",
    );
  });

  test("is found out before anything is imported", () => {
    expect(main).not.toMatch(/^import /m);
  });
});

test("a reader that leaves early is no failure", () => {
  const command = `"${process.execPath}" "${join(import.meta.dirname, "../../src/cli/main.ts")}" help; echo "code $?" >&2`;
  const { stderr } = spawnSync("sh", ["-c", `(${command}) | true`], { encoding: "utf8" });
  expect(stderr).toBe("code 0\n");
});
