#!/bin/sh
# forge and cast: deploy, send, read, filter, subscribe, reverts. Usage: forge.sh RPC_URL WS_URL PRIVATE_KEY
# Runs in the directory of the installed packages.
set -eu
rpc=$1 ws=$2 key=$3
# The packages' own launchers drop the exit status, so the platform's binaries are called directly.
forge=$(ls "$PWD"/node_modules/@foundry-rs/forge-*/bin/forge)
cast=$(ls "$PWD"/node_modules/@foundry-rs/cast-*/bin/cast)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/src" "$work/script"
cp Counter.sol "$work/src/"
cat > "$work/foundry.toml" <<TOML
[profile.default]
solc = "$PWD/solc-wrap.cjs"
offline = true
auto_detect_remappings = false
evm_version = "cancun"
bytecode_hash = "none"
cbor_metadata = false
TOML
cat > "$work/script/Deploy.s.sol" <<'SOL'
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Counter} from "../src/Counter.sol";

interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

contract Deploy {
    bool public constant IS_SCRIPT = true;
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run() external {
        VM.startBroadcast();
        Counter counter = new Counter(40);
        counter.add(2);
        VM.stopBroadcast();
        require(counter.value() == 42, "simulation");
    }
}
SOL
cd "$work"

# forge create
created=$("$forge" create src/Counter.sol:Counter --rpc-url "$rpc" --private-key "$key" --broadcast --json --constructor-args 5)
address=$(printf '%s' "$created" | sed -n 's/.*"deployedTo": *"\(0x[0-9a-fA-F]*\)".*/\1/p')
test -n "$address"

# send, read, storage, receipt
"$cast" send "$address" 'add(uint256)' 7 --rpc-url "$rpc" --private-key "$key" --json > send.json
grep -q '"status":"0x1"' send.json
test "$("$cast" call "$address" 'value()(uint256)' --rpc-url "$rpc")" = 12
test "$("$cast" storage "$address" 0 --rpc-url "$rpc")" = 0x000000000000000000000000000000000000000000000000000000000000000c

# filter
"$cast" logs --rpc-url "$rpc" --from-block 0 --address "$address" 'Changed(address,uint256)' --json > logs.json
test "$(grep -o '"logIndex"' logs.json | wc -l)" = 1

# revert: the reason comes through eth_estimateGas, the custom error's data through eth_call
if "$cast" send "$address" 'add(uint256)' 13 --rpc-url "$rpc" --private-key "$key" > refused.txt 2>&1; then exit 1; fi
grep -q 'execution reverted: thirteen is refused' refused.txt
if "$cast" call "$address" 'add(uint256)' 2000 --rpc-url "$rpc" > custom.txt 2>&1; then exit 1; fi
grep -qi 'execution reverted' custom.txt

# subscribe: one matching log ends the wait
"$cast" logs --rpc-url "$ws" --subscribe --address "$address" 'Changed(address,uint256)' > subscribed.txt 2>&1 &
subscriber=$!
trap 'kill $subscriber 2>/dev/null || true; rm -rf "$work"' EXIT
tries=0
until grep -qi "$address" subscribed.txt; do
  tries=$((tries + 1))
  test $tries -le 20 || { echo "no log was pushed"; cat subscribed.txt; exit 1; }
  # The subscription may not be set up yet: each send gives it another log to see.
  "$cast" send "$address" 'add(uint256)' 1 --rpc-url "$rpc" --private-key "$key" > send.txt
done
kill $subscriber

# forge script forks the state, simulates, and broadcasts two transactions
"$forge" script script/Deploy.s.sol:Deploy --rpc-url "$rpc" --private-key "$key" --broadcast --slow > script.txt 2>&1 \
  || { cat script.txt; exit 1; }
grep -q 'ONCHAIN EXECUTION COMPLETE & SUCCESSFUL' script.txt || { cat script.txt; exit 1; }
scripted=$(sed -n 's/.*"contractAddress": *"\(0x[0-9a-fA-F]*\)".*/\1/p' broadcast/Deploy.s.sol/*/run-latest.json | head -n 1)
test "$("$cast" call "$scripted" 'value()(uint256)' --rpc-url "$rpc")" = 42
echo "forge: passed"
