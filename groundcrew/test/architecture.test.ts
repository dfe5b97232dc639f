/**
 * The layering, as a test. A room is a folder or a single file at the top of `src/`; each stands on a floor. Imports go
 * down; on one floor a single file may look sideways, a folder may not. `ARCHITECTURE.md` says what the rooms are for.
 */
import { globSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { describe, expect, test } from "vitest";

const FLOORS: readonly (readonly string[])[] = [
  ["errors", "failure", "limits", "clock", "principal", "json", "inert", "failpoint"],
  ["agent", "approval", "policy", "faults", "wire", "wire-approvals", "wire-values"],
  ["persistence/", "client/", "call"],
  ["fault/", "security/", "cost/", "supervision/", "notify/", "observability/", "model/", "tool/", "stream/", "sqlite/", "postgres/"],
  ["run/", "store"],
  ["runtime"],
  ["server/", "preflight/", "testing/", "index"],
  ["cli/"],
];

/** Path in `src/` → its text. */
type Sources = ReadonlyMap<string, string>;

interface Import {
  from: string;
  line: number;
  /** As it is written: `./errors.ts`, `node:fs`, `hono`. */
  target: string;
}

function importsOf(path: string, text: string): Import[] {
  const statement = /^(?:import|export)\b[^;"]*?\bfrom\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\(\s*"([^"]+)"/gm;
  return [...text.matchAll(statement)].map((match) => ({
    from: path,
    line: text.slice(0, match.index).split("\n").length,
    target: match[1] ?? match[2] ?? match[3] ?? "",
  }));
}

const isRelative = (target: string) => target.startsWith(".");
const resolve = ({ from, target }: Import) => posix.join(posix.dirname(from), target);
const roomOf = (path: string) => (path.includes("/") ? `${path.split("/")[0]}/` : path.replace(/\.ts$/, ""));
const floorOf = (room: string) => FLOORS.findIndex((rooms) => rooms.includes(room)) + 1;

function whyForbidden(fromRoom: string, toRoom: string): string | undefined {
  if (fromRoom === toRoom) return undefined;
  const [from, to] = [floorOf(fromRoom), floorOf(toRoom)];
  if (from === 0 || to === 0) return undefined; // a room without a floor is told once, not at each of its imports
  if (to > from) return `${fromRoom} is on floor ${from} and ${toRoom} on floor ${to}: imports go down only`;
  if (to === from && fromRoom.endsWith("/")) return `both are on floor ${to}, and a folder does not import another room of its floor`;
  return undefined;
}

function violations(sources: Sources): string[] {
  const rooms = new Set([...sources.keys()].map(roomOf));
  const homeless = [...rooms].filter((room) => floorOf(room) === 0).map((room) => `src/${room} stands on no floor: give it one in FLOORS`);
  const imports = [...sources].flatMap(([path, text]) => importsOf(path, text)).filter(({ target }) => isRelative(target));
  const forbidden = imports.flatMap((statement) => {
    const to = resolve(statement);
    const why = sources.has(to) ? whyForbidden(roomOf(statement.from), roomOf(to)) : "there is no such file";
    return why ? [`src/${statement.from}:${statement.line} imports ${statement.target}, but ${why}`] : [];
  });
  return [...homeless, ...forbidden, ...cycles(imports)];
}

/** Each cycle once, as the path that closes it. */
function cycles(imports: readonly Import[]): string[] {
  const graph = Map.groupBy(imports, ({ from }) => from);
  const finished = new Set<string>();
  const found: string[] = [];
  const visit = (path: string, trail: readonly string[]) => {
    const start = trail.indexOf(path);
    if (start >= 0) found.push(`import cycle: ${[...trail.slice(start), path].join(" → ")}`);
    if (start >= 0 || finished.has(path)) return;
    for (const statement of graph.get(path) ?? []) visit(resolve(statement), [...trail, path]);
    finished.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return found;
}

describe("the rule", () => {
  const check = (files: Record<string, string>) => violations(new Map(Object.entries(files)));

  test("lets an import go down, over any number of floors", () => {
    expect(check({ "cli/main.ts": 'import { duration } from "../clock.ts";\n', "clock.ts": "" })).toEqual([]);
  });

  test("refuses an import that goes up, and names the line", () => {
    const files = { "clock.ts": '// time\nimport type {\n  Run,\n} from "./run/run.ts";\n', "run/run.ts": "" };
    expect(check(files)).toEqual([
      "src/clock.ts:2 imports ./run/run.ts, but clock is on floor 1 and run/ on floor 5: imports go down only",
    ]);
  });

  test("refuses a folder that imports its neighbour, and lets a single file do so", () => {
    const stream = { "stream/feed.ts": 'export { retry } from "../fault/retry.ts";\n', "fault/retry.ts": "" };
    expect(check(stream)).toEqual([
      "src/stream/feed.ts:1 imports ../fault/retry.ts, but both are on floor 4, and a folder does not import another room of its floor",
    ]);
    expect(check({ "call.ts": 'import "./persistence/event.ts";\n', "persistence/event.ts": "" })).toEqual([]);
  });

  test("sees imports that are loaded late or only for a type", () => {
    const late = 'const load = () => import("../cli/main.ts");\nlet store: import("../cli/main.ts").Store;\n';
    expect(check({ "run/loop.ts": late, "cli/main.ts": "" })).toHaveLength(2);
  });

  test("refuses a room that nobody gave a floor", () => {
    expect(check({ "utils/misc.ts": "" })).toEqual(["src/utils/ stands on no floor: give it one in FLOORS"]);
  });

  test("refuses a cycle, also inside one room", () => {
    const files = {
      "run/loop.ts": 'import "./step.ts";\n',
      "run/step.ts": 'import "./gates.ts";\n',
      "run/gates.ts": 'import "./loop.ts";\n',
    };
    expect(check(files)).toEqual(["import cycle: run/loop.ts → run/step.ts → run/gates.ts → run/loop.ts"]);
  });

  test("refuses an import of a file that is not there", () => {
    expect(check({ "run/loop.ts": 'import "./setp.ts";\n' })).toEqual(["src/run/loop.ts:1 imports ./setp.ts, but there is no such file"]);
  });
});

describe("the source", () => {
  const root = join(import.meta.dirname, "..");
  const paths = globSync("**/*.ts", { cwd: join(root, "src") }).map((path) => path.replaceAll("\\", "/"));
  const sources: Sources = new Map(paths.sort().map((path) => [path, readFileSync(join(root, "src", path), "utf8")]));

  test("keeps to the floors, without cycles", () => {
    expect(sources.size).toBeGreaterThan(0);
    expect(violations(sources)).toEqual([]);
  });

  test("imports no package that the published package does not declare", () => {
    const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const declared = new Set(Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies }));
    const nameOf = (target: string) => target.split("/", target.startsWith("@") ? 2 : 1).join("/");
    const undeclared = [...sources]
      .flatMap(([path, text]) => importsOf(path, text))
      .filter(({ target }) => !isRelative(target) && !target.startsWith("node:") && !declared.has(nameOf(target)))
      .map(({ from, line, target }) => `src/${from}:${line} imports ${target}`);
    expect(undeclared).toEqual([]);
  });

  test("stands on the floors that CONTRIBUTING.md shows", () => {
    const guide = readFileSync(join(root, "../CONTRIBUTING.md"), "utf8");
    const shown = [...guide.matchAll(/^\| (\d) \| (`.+`) \|$/gm)].map(([, floor, rooms]) => [Number(floor), rooms?.match(/[\w-]+\/?/g)]);
    expect(shown.reverse()).toEqual(FLOORS.map((rooms, index) => [index + 1, rooms]));
  });
});
