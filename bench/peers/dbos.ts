import { DBOS } from "@dbos-inc/dbos-sdk";
import { contend, work } from "../contender.ts";
import { STEP_NAMES } from "../record.ts";
import { versionOf } from "./version.ts";

await contend(async ({ url }) => {
  DBOS.setConfig({ name: "ten-steps", systemDatabaseUrl: url });
  const tenSteps = DBOS.registerWorkflow(
    async () => {
      for (const [i, name] of STEP_NAMES.entries()) await DBOS.runStep(async () => work(i), { name });
      return { done: STEP_NAMES.length };
    },
    { name: "tenSteps" },
  );
  await DBOS.launch();
  return {
    version: versionOf("@dbos-inc/dbos-sdk"),
    settings:
      "defaults (10 connections); the workflow started directly, without a queue; each step's result is committed before the next step",
    run: async () => (await DBOS.startWorkflow(tenSteps)()).getResult(),
    close: () => DBOS.shutdown(),
  };
});
