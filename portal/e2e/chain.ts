/**
 * A Starknet endpoint that answers what a receipt needs, in the form of a real one. Each test says
 * what its chain has, and may let an endpoint lie.
 */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

export const CHAIN_ID = "0x534e5f5345504f4c4941";
export const REGISTRY = "0x7e570001";
export const CUSTODIAN = "0xc0570001";
export const CLASS_HASH = "0x1a2b3c";

export type World = {
  chainId: string;
  classHash: string;
  block: { number: number; hash: string; time: number };
  /** Roots that are anchored, and handles that are opened, with their times. */
  anchored: Map<string, number>;
  revoked: Map<string, number>;
  /** Says something else instead. */
  lie?: (method: string) => object | string | undefined;
};

export type Call = { method: string; body: string };
export type Chain = { url: string; world: World; calls: Call[]; stop: () => Promise<void> };

export function world(): World {
  return {
    chainId: CHAIN_ID,
    classHash: CLASS_HASH,
    block: { number: 4711, hash: "0x5a", time: Math.floor(Date.now() / 1000) - 20 },
    anchored: new Map(),
    revoked: new Map(),
  };
}

type Rpc = { id: number; method: string; params?: { request?: { calldata: string[] } } };

const hex = (value: number | undefined) => `0x${(value ?? 0).toString(16)}`;

function result(world: World, { method, params }: Rpc): unknown {
  const { block } = world;
  switch (method) {
    case "starknet_chainId":
      return world.chainId;
    case "starknet_getBlockWithTxHashes":
      return {
        status: "ACCEPTED_ON_L2",
        block_hash: block.hash,
        block_number: block.number,
        timestamp: block.time,
        transactions: ["0x1", "0x2"],
      };
    case "starknet_getClassHashAt":
      return world.classHash;
    default: {
      const [, root = "", handle = ""] = params?.request?.calldata ?? [];
      return [
        hex(world.anchored.get(root)),
        hex(world.revoked.get(handle)),
        hex(block.time),
      ];
    }
  }
}

const HEADERS = {
  "access-control-allow-origin": "*",
  "access-control-allow-headers": "content-type",
  "content-type": "application/json",
};

/** Starts an endpoint on a free port. */
export async function start(of: World): Promise<Chain> {
  const calls: Call[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part: Buffer) => (body += part.toString()));
    request.on("end", () => {
      response.writeHead(200, HEADERS);
      if (request.method === "OPTIONS") return response.end();
      const rpc = JSON.parse(body) as Rpc;
      calls.push({ method: rpc.method, body });
      const lie = of.lie?.(rpc.method);
      if (typeof lie === "string") return response.end(lie);
      const said = lie ?? { result: result(of, rpc) };
      return response.end(JSON.stringify({ jsonrpc: "2.0", id: rpc.id, ...said }));
    });
  });
  const port = await listen(server);
  return { url: `http://127.0.0.1:${port}/`, world: of, calls, stop: () => close(server) };
}

export function listen(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      resolve((server.address() as AddressInfo).port);
    });
  });
}

export function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.closeAllConnections();
    server.close(() => {
      resolve();
    });
  });
}
