//! Serve a chain with instant seal, and run a command against it.
//!
//! `cargo run -p og-node --example instant -- COMMAND [ARGS…]` starts a node on a free loopback port with one
//! funded key, random each time, runs the command with `OG_RPC_URL`, `OG_WS_URL` and `OG_PRIVATE_KEY` in its
//! environment, and exits with its status. Without a command it prints these and serves until Ctrl-C.

use std::{error::Error, process::ExitCode};

use alloy_primitives::{B256, U256};
use alloy_signer_local::PrivateKeySigner;
use og_chain::{Genesis, GenesisAccount, Storage};
use og_node::{Clock as _, Node, NodeConfig, Seal, SystemClock};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut secret = B256::ZERO;
    getrandom::fill(secret.as_mut_slice())?;
    let key = PrivateKeySigner::from_bytes(&secret)?;
    let chain_id = std::env::var("OG_CHAIN_ID").map_or(Ok(8453), |id| id.parse())?;
    let mut genesis = Genesis::new(chain_id, SystemClock.now_s());
    let balance = U256::from(10).pow(U256::from(20));
    genesis.alloc.insert(key.address(), GenesisAccount { balance, ..GenesisAccount::default() });
    let config = NodeConfig::new(genesis, Storage::Memory, Seal::Instant);
    let node = Node::start(config, CancellationToken::new()).await?;
    let (rpc, ws) = (node.http_url().ok_or("no rpc")?, node.ws_url().ok_or("no rpc")?);

    let mut words = std::env::args_os().skip(1);
    let code = match words.next() {
        Some(program) => {
            let status = tokio::process::Command::new(program)
                .args(words)
                .env("OG_RPC_URL", rpc)
                .env("OG_WS_URL", ws)
                .env("OG_PRIVATE_KEY", secret.to_string())
                .status()
                .await?;
            ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
        }
        None => {
            print(&format!("OG_RPC_URL={rpc}\nOG_WS_URL={ws}\nOG_PRIVATE_KEY={secret}\n"))?;
            tokio::signal::ctrl_c().await?;
            ExitCode::SUCCESS
        }
    };
    node.stop().await?;
    Ok(code)
}

fn print(text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
