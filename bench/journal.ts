/** What a journal weighs, against the values that user code put into it. */
import { statSync } from "node:fs";
import { groundcrew } from "groundcrew";
import { checkpoint } from "./checkpoint.ts";
import type { Figure } from "./figure.ts";
import { Folder } from "./folder.ts";
import { STEPS, VALUE_BYTES } from "./record.ts";
import { tenSteps } from "./workload.ts";

const RUNS = 2_000;
const LANES = 64;

export async function journal(): Promise<Figure[]> {
  using folder = new Folder();
  const file = folder.file("crew.db");
  const crew = groundcrew({ agents: [tenSteps], store: file });
  await crew.work();
  await checkpoint(file);
  const before = statSync(file).size;
  let left = RUNS;
  const lane = async () => {
    while (left-- > 0) await (await crew.start(tenSteps, { input: { n: left } })).result();
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  await checkpoint(file);
  const bytes = statSync(file).size - before;
  await crew.close();
  return [
    {
      name: "journal.ratio",
      value: bytes / (RUNS * STEPS * VALUE_BYTES),
      unit: "x payload",
      how: `growth of the file by ${RUNS} runs of ${STEPS} steps, checkpointed, indexes and run rows included, to the JSON of the steps' values (${VALUE_BYTES} bytes each)`,
      target: { atMost: 1.3 },
    },
  ];
}
