import type { Codec } from "./codec.ts";
import { blobHash, type JsonValue } from "./json-value.ts";
import type { Store } from "./store.ts";

/** A recorded value, fetched from beside the journal when it stands there. @throws GroundcrewError `EVENT_UNREADABLE` */
export async function loadValue(store: Pick<Store, "blob">, codec: Codec, json: JsonValue | undefined): Promise<unknown> {
  const hash = blobHash(json);
  const blob = hash === undefined ? null : await store.blob(hash);
  return codec.decode(json, () => blob ?? undefined);
}
