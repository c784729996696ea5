#!/bin/sh
# Runs viem, ethers, web3.py and forge, unmodified, against a node.
#
#   cargo run -p og-node --example instant -- tests/clients/rpc/run.sh [CLIENT…]
#
# or with OG_RPC_URL, OG_WS_URL and OG_PRIVATE_KEY (a funded key) set by hand, for any node. CLIENT is one of
# viem ethers web3py forge; default all. What the package managers install is kept in OG_CLIENTS_DIR
# (default target/clients/rpc). Exit status 77: a tool is missing or the packages cannot be installed here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${OG_CLIENTS_DIR:-$here/../../../target/clients/rpc}
mkdir -p "$dir"
for tool in node npm python3; do
  command -v $tool > /dev/null || { echo "run.sh: $tool is missing"; exit 77; }
done
cp "$here"/*.mjs "$here"/*.cjs "$here"/*.py "$here"/*.sh "$here"/*.sol "$here/requirements.lock" "$dir"
cd "$dir"

# Installed once for each state of the lock files.
installed=$(cat "$here/package-lock.json" "$here/requirements.lock" | sha256sum)
if [ "$(cat installed 2> /dev/null)" != "$installed" ]; then
  rm -f installed
  cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" .
  npm ci --ignore-scripts > install.log 2>&1 || { cat install.log; exit 77; }
  python3 -m venv venv >> install.log 2>&1 || { cat install.log; exit 77; }
  venv/bin/pip install --quiet --require-hashes --no-deps -r requirements.lock >> install.log 2>&1 \
    || { cat install.log; exit 77; }
  printf '%s\n' "$installed" > installed
fi
node compile.mjs

for client in ${*:-viem ethers web3py forge}; do
  case $client in
    viem | ethers) node "$client.mjs" "$OG_RPC_URL" "$OG_WS_URL" "$OG_PRIVATE_KEY" ;;
    web3py) venv/bin/python web3py.py "$OG_RPC_URL" "$OG_WS_URL" "$OG_PRIVATE_KEY" ;;
    forge) sh forge.sh "$OG_RPC_URL" "$OG_WS_URL" "$OG_PRIVATE_KEY" ;;
    *) echo "run.sh: no client $client"; exit 2 ;;
  esac
done
