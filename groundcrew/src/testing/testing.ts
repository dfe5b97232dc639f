/** A fault kit for your own tests: see `docs/testing.md`. */
export { FakeClock } from "./clock.ts";
export { type TestCrew, type TestCrewOptions, testCrew } from "./crew.ts";
export { type KillOptions, killAt } from "./kill.ts";
export {
  fault,
  type ModelFault,
  type ModelRequest,
  type ScriptedAnswer,
  type ScriptedCall,
  type ScriptedModel,
  type ScriptOptions,
  scriptedModel,
} from "./model.ts";
export { type FaultyTool, failingTool, hangingTool, type ToolFault, withFaults } from "./tool.ts";
