// A server of the test's own: `chatd serve` on a free loopback port, with a home folder of its own.

import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const python = process.env["CHATD_PYTHON"] ?? resolve(import.meta.dirname, "../../../.venv/bin/python");

export interface Server {
  readonly baseUrl: string;
  readonly key: string;
  stop(): Promise<void>;
}

/** Start a server and wait until it says where it listens. */
export async function startServer(): Promise<Server> {
  const home = await mkdtemp(join(tmpdir(), "chatd-ts-"));
  const child = spawn(python, ["-m", "chatd_server", "serve", "--port", "0", "--json"], {
    env: { ...process.env, CHATD_HOME: home },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const address = await announced(child);
  const key = (await readFile(join(home, "root.key"), "utf8")).trim();
  return {
    baseUrl: `http://${address}`,
    key,
    async stop() {
      const gone = new Promise((done) => child.once("exit", done));
      child.kill("SIGTERM");
      await gone;
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** Return the address that the server announces on its standard output. */
async function announced(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error("the server has no standard output");
  for await (const line of createInterface({ input: child.stdout })) {
    const found = JSON.parse(line) as { address?: string };
    if (found.address !== undefined) {
      child.stdout.resume();
      return found.address;
    }
  }
  throw new Error(`the server ended before it served (${python} -m chatd_server serve)`);
}
