//! `og dev` keeps its contract: what `devnet.json` promises to scripts is true, also after restarts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use og_client::Chain;
use og_client::registry::active_gateways;
use og_e2e::network::Network;
use og_testkit::rpc::Rpc;
use og_testkit::upstream::MockUpstream;
use serde_json::json;

const NATIVE: u128 = 100 * 10_u128.pow(18);
const OPG: u128 = 10_000 * 10_u128.pow(18);
const USDC: u128 = 10_000 * 10_u128.pow(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_file_tells_the_truth() {
    let network = Network::start(false).await.unwrap();
    let mode = std::fs::metadata(network.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds keys");

    let (chain, payment) = (Rpc::new(&network.network.rpc_url), Rpc::new(&network.payment.rpc_url));
    for (rpc, id) in [(&chain, network.network.chain_id), (&payment, network.payment.chain_id)] {
        assert_eq!(rpc.call("eth_chainId", json!([])).await.unwrap(), json!(format!("0x{id:x}")));
    }
    assert_eq!((network.network.chain_id, network.payment.chain_id), (10740, 8453));
    let genesis = chain.call("eth_getBlockByNumber", json!(["0x0", false])).await.unwrap();
    assert_eq!(genesis["hash"], json!(network.trust.genesis_hash));
    assert_eq!(network.trust.validators.len(), 4);
    assert!(network.trust.tee_roots.iter().any(|root| root.simulated));
    for url in [&network.gateway().unwrap().url, &network.facilitator.url, &network.store.url] {
        assert!(url.contains("://127.0.0.1:"), "{url}");
    }
    assert!(network.gateways.iter().all(|gateway| gateway.simulated));
    let served: BTreeSet<_> = network.models.iter().cloned().collect();
    assert_eq!(served, MockUpstream::models().into_iter().collect());

    let contracts = &network.contracts;
    assert!(network.accounts.len() >= 3, "{:?}", network.accounts);
    for (index, account) in network.accounts.iter().enumerate() {
        let who = &account.name;
        for rpc in [&chain, &payment] {
            let balance =
                rpc.call("eth_getBalance", json!([account.address, "latest"])).await.unwrap();
            let balance = og_testkit::rpc::quantity(&balance).unwrap();
            // Whoever registered the gateway has paid for gas already.
            assert!((NATIVE - NATIVE / 100..=NATIVE).contains(&balance), "{who}: {balance}");
        }
        for (token, amount) in [(&contracts.opg, OPG), (&contracts.usdc, USDC)] {
            assert_eq!(
                payment.token_balance(token, &account.address).await.unwrap(),
                amount,
                "{who}"
            );
            let allowance =
                payment.token_allowance(token, &account.address, &contracts.permit2).await.unwrap();
            assert_eq!(allowance > 0, index > 0, "{who}: all but the first may pay at once");
        }
    }

    // Chain id and token addresses are the real ones: a key that is the same everywhere would sign real money away.
    let other = Network::start(false).await.unwrap();
    for account in &network.accounts {
        assert!(other.accounts.iter().all(|theirs| theirs.private_key != account.private_key));
    }
    assert_ne!(network.trust.validators, other.trust.validators);
    other.stop().unwrap();
    network.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_resumes_with_exactly_the_live_gateway() {
    let mut network = Network::start(false).await.unwrap();
    let first = (*network).clone();
    for round in 0..3 {
        let height = Rpc::new(&network.network.rpc_url).block_number().await.unwrap();
        let block = json!([format!("0x{height:x}"), false]);
        let before = Rpc::new(&network.network.rpc_url)
            .call("eth_getBlockByNumber", block.clone())
            .await
            .unwrap();
        network = network.restart(round != 1).unwrap();
        let rpc = Rpc::new(&network.network.rpc_url);
        let after = rpc.call("eth_getBlockByNumber", block).await.unwrap();
        assert_eq!(after["hash"], before["hash"], "round {round}");
        assert_eq!(network.trust.genesis_hash, first.trust.genesis_hash);
        assert_eq!(network.accounts[0].private_key, first.accounts[0].private_key);

        let chain = Chain::connect("the OpenGradient chain", &network.network.rpc_url).unwrap();
        let registry = network.contracts.tee_registry.parse().unwrap();
        let active = active_gateways(&chain, registry).await.unwrap();
        let ids: Vec<String> = active.iter().map(|gateway| gateway.tee_id.to_string()).collect();
        assert_eq!(ids, [network.gateway().unwrap().tee_id.clone()], "round {round}");
        assert_eq!(active[0].endpoint, network.gateway().unwrap().url);
        assert_ne!(network.gateway().unwrap().tee_id, first.gateway().unwrap().tee_id, "new keys");
    }
    network.stop().unwrap();
}
