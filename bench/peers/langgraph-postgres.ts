import { PostgresSaver } from "@langchain/langgraph-checkpoint-postgres";
import { contend } from "../contender.ts";
import { DURABILITY, runnerOf } from "./langgraph.ts";
import { versionOf } from "./version.ts";

await contend(async ({ url }) => {
  const saver = PostgresSaver.fromConnString(url);
  await saver.setup();
  return {
    version: `${versionOf("@langchain/langgraph")}, ${versionOf("@langchain/langgraph-checkpoint-postgres")}`,
    settings: `${DURABILITY}; otherwise defaults (10 connections)`,
    run: runnerOf(saver),
    close: () => saver.end(),
  };
});
