/**
 * `npm test`: everything that a change has to pass. All of it runs, also behind a failure, and the last line is the sum:
 * `N passed, N failed`. Arguments go to vitest: `npm test -- groundcrew/test/run`.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

/** The parts of vitest's JSON report that are counted. */
interface Report {
  success: boolean;
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  testResults: { status: string; assertionResults: { status: string }[] }[];
}

/** A suite that hangs is a failed suite: it has to say so before whoever runs it gives up. */
const MAX_SUITE_MS = 22 * 60_000;

const root = join(import.meta.dirname, "..");
const path = [dirname(process.execPath), join(root, "node_modules/.bin"), process.env["PATH"] ?? ""].join(delimiter);
const env = { ...process.env, PATH: path };

function run(command: string, args: readonly string[]): boolean {
  console.log(`\n> ${command} ${args.join(" ")}`);
  return spawnSync(command, args, { cwd: root, env, stdio: "inherit", timeout: MAX_SUITE_MS }).status === 0;
}

function checks(): Count {
  const results = [
    run("node", ["scripts/build.ts"]), // first: examples and benchmarks see the package through its build
    ...["groundcrew", "examples", "bench", "chaos", "."].map((project) => run("tsc", ["-p", project, "--noEmit"])),
    run("biome", ["check", "--error-on-warnings", "."]),
  ];
  const passed = results.filter(Boolean).length;
  return { passed, failed: results.length - passed, skipped: 0 };
}

function tests(): Count {
  const folder = mkdtempSync(join(tmpdir(), "groundcrew-test-"));
  const file = join(folder, "report.json");
  try {
    const ok = run("vitest", ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${file}`, ...process.argv.slice(2)]);
    return existsSync(file) ? count(JSON.parse(readFileSync(file, "utf8")), ok) : { passed: 0, failed: 1, skipped: 0 };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function count(report: Report, ok: boolean): Count {
  const broken = report.testResults.filter(({ status, assertionResults }) => {
    return status === "failed" && assertionResults.every((test) => test.status !== "failed"); // it did not load, or its setup failed
  });
  const failed = report.numFailedTests + broken.length;
  return {
    passed: report.numPassedTests,
    failed: failed === 0 && !(ok && report.success) ? 1 : failed, // an error outside any test: an unhandled rejection, a worker that died
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

const parts = [checks(), tests()];
const sum = (key: keyof Count) => parts.reduce((total, part) => total + part[key], 0);

process.exitCode = sum("failed") === 0 ? 0 : 1;
console.log(`\n${sum("passed")} passed, ${sum("failed")} failed${sum("skipped") > 0 ? `, ${sum("skipped")} skipped` : ""}`);
