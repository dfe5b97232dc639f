import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["{groundcrew/test,examples,bench,chaos}/**/*.test.ts"],
    maxWorkers: 2, // on two cores vitest would take one: half of the tests wait for processes and timers
    pool: "forks", // tests kill processes, close stores and change the environment: each file gets a process of its own
    globalSetup: "groundcrew/test/support/postgres-global.ts",
    testTimeout: 30_000,
    hookTimeout: 30_000,
    restoreMocks: true,
  },
});
