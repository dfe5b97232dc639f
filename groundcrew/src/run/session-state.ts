import type { StateChange } from "../call.ts";
import type { Codec } from "../persistence/codec.ts";
import { blobHash, type JsonValue } from "../persistence/json-value.ts";
import type { Store } from "../persistence/store.ts";

/** The typed state of a session as the turn at work sees it. Nobody gets hold of it: what is read is a copy. */
export class SessionState {
  readonly #codec: Codec;
  #json: JsonValue;

  private constructor(codec: Codec, json: JsonValue) {
    this.#codec = codec;
    this.#json = json;
  }

  /** @param json as it was recorded. */
  static async load(store: Pick<Store, "blob">, codec: Codec, json: JsonValue | undefined): Promise<SessionState> {
    const hash = blobHash(json);
    const text = hash === undefined ? null : await store.blob(hash);
    return new SessionState(codec, text === null ? (json ?? {}) : JSON.parse(text));
  }

  read(): Record<string, unknown> {
    return this.#codec.decode(structuredClone(this.#json), () => undefined) as Record<string, unknown>;
  }

  /**
   * The state with the changes of a step that went well. Steps that ran side by side each change what the one before left.
   * @throws GroundcrewError `VALUE_UNSERIALIZABLE`, `LIMIT_EXCEEDED`, and what a change throws
   */
  with(changes: readonly StateChange[]): Record<string, unknown> {
    const next = this.read();
    for (const { name, change } of changes) next[name] = change(Object.hasOwn(next, name) ? next[name] : undefined);
    return next;
  }

  /** @throws GroundcrewError `VALUE_UNSERIALIZABLE`, `LIMIT_EXCEEDED` */
  replace(next: Record<string, unknown>): void {
    const { text, blob } = this.#codec.encode(next, "session state");
    this.#json = JSON.parse(blob?.data ?? text ?? "{}");
  }
}
