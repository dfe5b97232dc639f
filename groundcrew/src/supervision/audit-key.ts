/** Whether a process may write to an audit log: with another key than the log's own it would be broken from there on, for good. */
import { GroundcrewError } from "../errors.ts";
import { AUDIT_KEY_RECORDS, AUDIT_KEY_TENANTS } from "../limits.ts";
import { auditHash } from "../persistence/audit.ts";
import type { Store } from "../persistence/store.ts";

/**
 * @returns whether it is known by now: nothing may be written yet.
 * @throws GroundcrewError `CONFIG_INVALID` when `key` is not what the log of this store is written with
 */
export async function mustHaveAuditKey(store: Pick<Store, "audit" | "auditHeads">, key: string | undefined): Promise<boolean> {
  const heads = (await store.auditHeads()).filter(({ seq }) => seq > 0).slice(0, AUDIT_KEY_TENANTS);
  if (heads.length === 0) return false;
  for (const { tenant, seq } of heads) {
    const last = await store.audit(tenant, Math.max(0, seq - AUDIT_KEY_RECORDS), AUDIT_KEY_RECORDS);
    if (last.some(({ record, hash }) => auditHash(record, key) === hash)) return true;
  }
  const which = key === undefined ? "with a key, and this process has none" : "without a key, or with another than this process has";
  throw new GroundcrewError("CONFIG_INVALID", `The audit log of this store is written ${which}.`, {
    fix:
      "Set `supervision.auditKey` to what the log was begun with. On the command line name the config file with --config, or give the " +
      "key in $GROUNDCREW_AUDIT_KEY. If it was never another: `groundcrew audit verify`.",
  });
}
