import { join } from "node:path";
import { Mastra } from "@mastra/core/mastra";
import { createStep, createWorkflow } from "@mastra/core/workflows";
import { LibSQLStore } from "@mastra/libsql";
import { z } from "zod";
import { contend, work } from "../contender.ts";
import { STEP_NAMES } from "../record.ts";
import { versionOf } from "./version.ts";

const value = z.looseObject({});

await contend(async ({ folder }) => {
  const steps = STEP_NAMES.map((id, i) => createStep({ id, inputSchema: value, outputSchema: value, execute: async () => work(i) }));
  const tenSteps = steps.reduce(
    (workflow, step) => workflow.then(step),
    createWorkflow({ id: "ten-steps", inputSchema: value, outputSchema: value }),
  );
  const storage = new LibSQLStore({ id: "bench", url: `file:${join(folder, "mastra.db")}` });
  const mastra = new Mastra({ storage, workflows: { tenSteps: tenSteps.commit() } });
  return {
    version: `${versionOf("@mastra/core")}, ${versionOf("@mastra/libsql")}`,
    settings:
      "defaults; the default engine saves a snapshot after each step; its store asks for synchronous=NORMAL, yet nearly every commit was seen to wait for the disk",
    run: async () => {
      const run = await mastra.getWorkflow("tenSteps").createRun();
      const { status } = await run.start({ inputData: {} });
      if (status !== "success") throw new Error(`The run ended as "${status}".`);
    },
    close: () => storage.close(),
  };
});
