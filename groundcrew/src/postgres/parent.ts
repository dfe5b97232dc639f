/** Whether those who start child runs still hold the parents. */
import { GroundcrewError } from "../errors.ts";
import { shardOfRun } from "../persistence/id.ts";
import type { NewRun } from "../persistence/store.ts";
import { holdLeases } from "./lease.ts";
import { among, column, escaped, type Transaction, together } from "./row.ts";

interface Parent {
  shard: number;
  id: string;
  worker: string | null;
  epoch: number;
}

/**
 * Holds the parents of the new runs as they are, until the end of the transaction: workers first and then runs, in the order in
 * which whoever moves a run locks them. A parent that is ending now is waited for, and one that would end next waits for the child.
 * @returns the runs that must not begin, with `SUPERSEDED`.
 */
export async function withoutParent(tx: Transaction, runs: readonly NewRun[]): Promise<Map<NewRun, GroundcrewError>> {
  const children = runs.flatMap((run) => (run.parent ? { run, parent: run.parent, shard: shardOfRun(run.parent.run) } : []));
  if (children.length === 0) return new Map();
  const keys = children.map(({ parent, shard }) => ({ shard, id: escaped(parent.run) })).sort(byKey);
  const [leases, ...held] = await Promise.all([
    holdLeases(
      tx,
      children.map(({ parent }) => parent.worker),
    ),
    ...together(tx, keys).map((some) =>
      tx.query<Parent>(
        `select shard, id, worker, epoch from groundcrew.runs where ${among(tx, "shard", "id")} order by shard, id for share`,
        [column(some, "shard"), column(some, "id")],
      ),
    ),
  ]);
  const parents = new Map(held.flat().map((parent) => [parent.id, parent]));
  return new Map(
    children.flatMap(({ run, parent: { run: id, worker, epoch } }) => {
      const parent = parents.get(escaped(id));
      if (leases.has(worker) && parent?.worker === worker && parent.epoch === epoch) return [];
      const why = `Run ${id} is no longer held by worker ${worker} at epoch ${epoch}: it starts no child.`;
      return [[run, new GroundcrewError("SUPERSEDED", why, { run: id })] as const];
    }),
  );
}

function byKey(a: { shard: number; id: string }, b: { shard: number; id: string }): number {
  return a.shard - b.shard || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}
