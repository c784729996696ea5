// Compiles every contract and writes `artifacts/<Name>.json`, the same bytes on every machine.
//
//   node build.mjs           write the artifacts
//   node build.mjs --check   fail when a committed artifact differs from a fresh build
//
// The compiler and the libraries come from npm, pinned by package-lock.json (`npm ci --ignore-scripts`).

import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const solc = createRequire(import.meta.url)("solc");
const root = dirname(fileURLToPath(import.meta.url));
const artifactsDir = join(root, "artifacts");

// Contracts that get an artifact; the rest are parts of them.
const CONTRACTS = {
  TEERegistry: "src/TEERegistry.sol",
  TEERegistryAlias: "src/TEERegistryAlias.sol",
  TEEInferenceVerifier: "src/TEEInferenceVerifier.sol",
  TEEBatchVerifier: "src/TEEBatchVerifier.sol",
  InferenceSettlementRelay: "src/InferenceSettlementRelay.sol",
  OpenGradientToken: "src/payments/OpenGradientToken.sol",
  UsdCoin: "src/payments/UsdCoin.sol",
  X402ExactPermit2Proxy: "src/payments/X402ExactPermit2Proxy.sol",
  X402UptoPermit2Proxy: "src/payments/X402UptoPermit2Proxy.sol",
};

function soliditySources(dir) {
  return readdirSync(dir, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(dir, entry.name);
      if (entry.isDirectory()) return soliditySources(path);
      return entry.name.endsWith(".sol") ? [path] : [];
    })
    .sort();
}

function compile() {
  const sources = {};
  for (const path of soliditySources(join(root, "src"))) {
    // Relative names, so that no folder of this machine gets into the output.
    sources[relative(root, path).split(sep).join("/")] = { content: readFileSync(path, "utf8") };
  }
  const input = {
    language: "Solidity",
    sources,
    settings: {
      evmVersion: "cancun",
      viaIR: true,
      optimizer: { enabled: true, runs: 200 },
      metadata: { appendCBOR: false, bytecodeHash: "none" },
      outputSelection: {
        "*": {
          "": ["ast"],
          "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode", "storageLayout"],
        },
      },
    },
  };
  const readImport = (name) => {
    try {
      return { contents: readFileSync(join(root, "node_modules", name), "utf8") };
    } catch (error) {
      return { error: String(error) };
    }
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
  // 2394 warns that transient storage lives until the end of the transaction; the guard clears it itself.
  const problems = (output.errors ?? []).filter(({ errorCode }) => errorCode !== "2394");
  for (const problem of problems) console.error(problem.formattedMessage);
  if (problems.length > 0) throw new Error("the compiler complained; warnings count");
  return output;
}

// The compiler names immutables by syntax-tree ids, which say nothing to a reader.
function namesOfDeclarations(output) {
  const names = new Map();
  const visit = (node) => {
    if (Array.isArray(node)) return node.forEach(visit);
    if (node === null || typeof node !== "object") return;
    if (node.nodeType === "VariableDeclaration") names.set(String(node.id), node.name);
    Object.values(node).forEach(visit);
  };
  for (const source of Object.values(output.sources)) visit(source.ast);
  return names;
}

function artifactsOf(output) {
  const names = namesOfDeclarations(output);
  const artifacts = {};
  for (const [name, file] of Object.entries(CONTRACTS)) {
    const contract = output.contracts[file][name];
    const runtime = contract.evm.deployedBytecode;
    if (runtime.object.length / 2 > 24576) throw new Error(`${name} exceeds the size limit of EIP-170`);
    const immutables = {};
    for (const [id, places] of Object.entries(runtime.immutableReferences ?? {})) {
      immutables[names.get(id)] = places.map(({ start }) => start).sort((a, b) => a - b);
    }
    const storage = {};
    for (const { label, slot, offset, type } of contract.storageLayout?.storage ?? []) {
      storage[label] = { slot: Number(slot), offset, type: type.replace(/\)\d+(_storage)?/g, ")") };
    }
    artifacts[name] = {
      contractName: name,
      compiler: solc.version(),
      abi: contract.abi,
      bytecode: `0x${contract.evm.bytecode.object}`,
      deployedBytecode: `0x${runtime.object}`,
      immutableReferences: sortKeys(immutables),
      storageLayout: sortKeys(storage),
    };
  }
  return artifacts;
}

// Contracts that others compiled: only their runtime code is placed in genesis.
async function foreignArtifacts() {
  const permit2Source = readFileSync(
    join(root, "node_modules/@uniswap/v4-periphery/lib/permit2/test/utils/DeployPermit2.sol"),
    "utf8",
  );
  const permit2 = permit2Source.match(/hex"([0-9a-f]+)"/)[1];

  // A creation code that only returns what follows it: PUSH2 length .. CODECOPY .. RETURN, INVALID.
  const { multicall3Bytecode } = await import("./node_modules/viem/_esm/constants/contracts.js");
  const parts = multicall3Bytecode.match(
    /^0x608060405234801561001057600080fd5b50(61[0-9a-f]{4})806100206000396000f3fe([0-9a-f]+)$/,
  );
  const length = parseInt(parts[1].slice(2), 16);
  const multicall3 = parts[2].slice(0, 2 * length);
  if (multicall3.length !== 2 * length) throw new Error("Multicall3 is cut short");

  const deployer =
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3";
  return {
    Permit2: { contractName: "Permit2", source: "@uniswap/v4-periphery DeployPermit2.sol (MIT)", deployedBytecode: `0x${permit2}` },
    Multicall3: { contractName: "Multicall3", source: "viem constants/contracts (MIT)", deployedBytecode: `0x${multicall3}` },
    Create2Deployer: { contractName: "Create2Deployer", source: "deterministic deployment proxy (public constant)", deployedBytecode: `0x${deployer}` },
  };
}

function sortKeys(object) {
  return Object.fromEntries(Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const artifacts = { ...artifactsOf(compile()), ...(await foreignArtifacts()) };
const files = new Map(
  Object.entries(artifacts).map(([name, artifact]) => [`${name}.json`, `${JSON.stringify(artifact, null, 1)}\n`]),
);

if (process.argv.includes("--check")) {
  const committed = readdirSync(artifactsDir).sort();
  const differing = [...new Set([...committed, ...files.keys()])].filter(
    (file) => !committed.includes(file) || !files.has(file) || readFileSync(join(artifactsDir, file), "utf8") !== files.get(file),
  );
  if (differing.length > 0) {
    console.error(`artifacts differ from a fresh build: ${differing.join(", ")}`);
    process.exit(1);
  }
  console.log(`${files.size} artifacts equal a fresh build`);
} else {
  rmSync(artifactsDir, { recursive: true, force: true });
  mkdirSync(artifactsDir);
  for (const [file, text] of files) writeFileSync(join(artifactsDir, file), text);
  console.log(`wrote ${files.size} artifacts`);
}
