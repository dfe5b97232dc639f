import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** They take minutes; vitest goes by the size of a file, which says little of one whose claims stand in another. */
const LONG = ["persistence/postgres.test.ts", "crash/crash.test.ts"];

class LongOnesFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) => LONG.some((name) => moduleId.endsWith(name));
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  test: {
    include: ["{groundcrew/test,examples,bench,chaos}/**/*.test.ts"],
    maxWorkers: 2, // on two cores vitest would take one: half of the tests wait for processes and timers
    pool: "forks", // tests kill processes, close stores and change the environment: each file gets a process of its own
    globalSetup: "groundcrew/test/support/postgres-global.ts",
    testTimeout: 30_000,
    hookTimeout: 30_000,
    restoreMocks: true,
    sequence: { sequencer: LongOnesFirst },
  },
});
