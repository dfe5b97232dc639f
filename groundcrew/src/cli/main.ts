#!/usr/bin/env node
/**
 * The entry of the `groundcrew` command. It imports nothing before it has looked at the version of Node: an older one would
 * fail on a module it does not know, with a stack trace instead of a sentence.
 */
export {};

const NEEDED = 24;
const found = process.versions.node;

if (Number.parseInt(found, 10) < NEEDED) {
  process.stderr.write(
    `error: Groundcrew needs Node ${NEEDED} or newer, this is Node ${found}.\n` +
      `Install a newer one (https://nodejs.org) or choose it with your version manager, e.g. \`nvm use ${NEEDED}\`.\n`,
  );
  process.exit(2);
}

// Half of the start is compiling what it imports, the AI SDK above all; the cache makes that once per machine.
(await import("node:module")).enableCompileCache();
const { main } = await import("./program.ts");
await main(process.argv.slice(2));
