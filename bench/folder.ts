import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Where stores are made. On a disk: a file system in memory has no fsync to wait for. */
const root = process.env["BENCH_DIR"] ?? tmpdir();

/** A directory for the stores of one measurement, removed with all that is in it. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(join(root, "groundcrew-bench-"));

  file(name: string): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
