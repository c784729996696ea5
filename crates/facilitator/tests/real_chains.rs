//! The facilitator on real chains: the executor, the genesis contracts, the native verifier, JSON-RPC. A simulated
//! enclave registers by attestation. Charges and settlements are counted in the chains' logs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests stand outside of test functions"
)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_consensus::{SignableTransaction as _, TxEip1559};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, B256, Bytes, TxKind, U64, U256, keccak256};
use alloy_sol_types::{SolCall, SolEvent};
use og_attest::keys::{BoundKeys, KeyBinding};
use og_attest::simulated::{Authority, Measurements, Statement};
use og_chain::{Genesis, Storage, TrustedRoot};
use og_contracts::genesis::{
    ApprovedMeasurement, Funding, GenesisParams, base_alloc, opengradient_alloc,
};
use og_contracts::registry::Registration;
use og_contracts::{
    IERC20Permit3009, IInferenceSettlementRelay as Relay, ITEERegistry, addresses,
    registration_nonce,
};
use og_facilitator::*;
use og_node::{Node, NodeConfig, NodeHandle, Seal};
use og_x402::extensions::EIP2612_GAS_SPONSORING;
use og_x402::wire::{EvmTerms, Members, TokenDomain};
use og_x402::{
    Fresh, PERMIT2, PaymentRequired, PaymentRequirements, Resource, Wallet, client, eip712,
};
use serde_json::{Value, json};
use support::{NETWORK_CHAIN, OPG, PAYEE, PAYMENT_CHAIN, REGISTRY, RELAY, Running, Tee, now_secs};
use tokio_util::sync::CancellationToken;

const USDC: Address = addresses::USDC;

struct Network {
    payment: NodeHandle,
    network: NodeHandle,
    folder: tempfile::TempDir,
    client: reqwest::Client,
    bob: Wallet,
    /// Has no allowance for Permit2.
    alice: Wallet,
    operator: Wallet,
    keys: Keys,
}

impl Network {
    async fn start() -> Self {
        let wallet = |n: u8| Wallet::from_key(&[n; 32]).unwrap();
        let (bob, alice, operator) = (wallet(0x11), wallet(0x12), wallet(0x13));
        let keys = Keys { payment: wallet(0x21), evidence: wallet(0x22), heartbeat: wallet(0x22) };
        let coin = U256::from(10).pow(U256::from(18));
        let fund = |address, permit2_allowance| Funding {
            address,
            native: U256::from(100) * coin,
            opg: U256::from(10_000),
            usdc: U256::from(10_000),
            permit2_allowance,
        };
        let started = now_secs() - 60;
        let mut params = GenesisParams::new(wallet(0x01).address(), started);
        params.operators = vec![operator.address()];
        params.relayers = vec![keys.evidence.address()];
        params.approved_measurements = vec![ApprovedMeasurement {
            tee_type: 0,
            pcr_hash: Measurements::of_image("og-gateway").pcr_hash(),
            version: "simulated".to_owned(),
        }];
        params.funding = vec![
            fund(bob.address(), true),
            fund(alice.address(), false),
            fund(operator.address(), false),
            fund(keys.payment.address(), false),
            fund(keys.evidence.address(), false),
        ];
        let mut payment = Genesis::new(PAYMENT_CHAIN, started);
        payment.alloc = base_alloc(&params).unwrap();
        let mut network = Genesis::new(NETWORK_CHAIN, started);
        network.alloc = opengradient_alloc(&params).unwrap();
        let root = og_attest::roots::DEVELOPMENT;
        network.trusted_roots.push(TrustedRoot { sha256: root.sha256, simulated: root.simulated });
        Self {
            payment: instant(payment).await,
            network: instant(network).await,
            folder: tempfile::tempdir().unwrap(),
            client: reqwest::Client::new(),
            bob,
            alice,
            operator,
            keys,
        }
    }

    fn open(&self) -> Facilitator {
        let blobs = self.folder.path().join("blobs");
        let blobs = og_blob::LocalStore::open(&blobs, og_blob::Limits::default()).unwrap();
        let config = Config {
            database: self.folder.path().join("outbox.sqlite"),
            payment: PaymentChain {
                rpc_url: self.payment.http_url().unwrap(),
                chain_id: PAYMENT_CHAIN,
                confirmations: 1,
                assets: vec![OPG, USDC],
                payees: vec![PAYEE],
            },
            network: NetworkChain {
                rpc_url: self.network.http_url().unwrap(),
                chain_id: NETWORK_CHAIN,
                registry: REGISTRY,
                relay: RELAY,
            },
            flush: FlushPolicy { items_max: 4, idle_ms: 10, age_ms: 50 },
            sending: Sending { poll_ms: 10, rebroadcast_ms: 200, ..Sending::default() },
            http_settle: HttpSettle::Closed,
            retention_days: 30,
        };
        Facilitator::open(config, self.keys.clone(), blobs).unwrap()
    }

    async fn rpc(&self, node: &NodeHandle, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = self.client.post(node.http_url().unwrap()).json(&body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    async fn logs<E: SolEvent>(
        &self,
        node: &NodeHandle,
        address: Address,
    ) -> Vec<(Vec<B256>, Bytes)> {
        let filter =
            json!({ "address": address, "topics": [E::SIGNATURE_HASH], "fromBlock": "0x0" });
        let logs = self.rpc(node, "eth_getLogs", json!([filter])).await;
        let logs = logs.as_array().unwrap();
        let parse = |log: &Value| {
            let topics = serde_json::from_value(log["topics"].clone()).unwrap();
            (topics, serde_json::from_value(log["data"].clone()).unwrap())
        };
        logs.iter().map(parse).collect()
    }

    /// Amounts that moved from `payer` to the payee.
    async fn charges(&self, token: Address, payer: Address) -> Vec<U256> {
        let logs = self.logs::<IERC20Permit3009::Transfer>(&self.payment, token).await;
        let paid = logs
            .into_iter()
            .filter(|(topics, _)| topics[1..] == [payer.into_word(), PAYEE.into_word()]);
        let mut charges: Vec<U256> = paid.map(|(_, data)| U256::from_be_slice(&data)).collect();
        charges.sort();
        charges
    }

    async fn register(&self, tee: &Tee) {
        let tls_certificate = Authority::from_seed(b"tls").root_der().to_vec();
        let endpoint = "https://127.0.0.1:8443";
        let nonce = registration_nonce(&Registration {
            owner: self.operator.address(),
            chain_id: NETWORK_CHAIN,
            genesis_hash: self.network.chain().unwrap().genesis_hash(),
            registry: REGISTRY,
            pay_to: PAYEE,
            endpoint,
            tee_type: 0,
        });
        let document = Authority::development().document(&Statement {
            module_id: "i-simulated",
            timestamp_ms: now_secs() * 1_000,
            measurements: &Measurements::of_image("og-gateway"),
            user_data: &KeyBinding::of(&tls_certificate, &tee.key_der).to_user_data(),
            public_key: &BoundKeys::new([0x11; 32], [0x22; 32]).encode(),
            nonce: nonce.as_slice(),
        });
        let call = ITEERegistry::registerTEEWithAttestationCall {
            attestation: document.into(),
            signingKey: tee.key_der.clone(),
            tlsCertificate: tls_certificate.into(),
            paymentAddress: PAYEE,
            endpoint: endpoint.to_owned(),
            teeType: 0,
        };
        let transaction = TxEip1559 {
            chain_id: NETWORK_CHAIN,
            nonce: 0,
            gas_limit: 5_000_000,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000,
            to: TxKind::Call(REGISTRY),
            input: call.abi_encode().into(),
            ..TxEip1559::default()
        };
        let signature = self.operator.sign(&transaction.signature_hash());
        let parity = signature.v() == 28;
        let signature = alloy_primitives::Signature::from_scalars_and_parity(
            signature.r(),
            signature.s(),
            parity,
        );
        let raw = Bytes::from(transaction.into_signed(signature).encoded_2718());
        let hash = self.rpc(&self.network, "eth_sendRawTransaction", json!([raw])).await;
        let receipt = loop {
            let receipt = self.rpc(&self.network, "eth_getTransactionReceipt", json!([hash])).await;
            if !receipt.is_null() {
                break receipt;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(receipt["status"], json!(U64::ONE), "registration: {receipt}");
    }
}

async fn instant(genesis: Genesis) -> NodeHandle {
    let config = NodeConfig::new(genesis, Storage::Memory, Seal::Instant);
    Node::start(config, CancellationToken::new()).await.unwrap()
}

fn upto(token: Address, keys: &Keys, cap: u64) -> PaymentRequirements {
    let terms =
        EvmTerms { chain_id: PAYMENT_CHAIN, asset: token, amount: U256::from(cap), pay_to: PAYEE };
    PaymentRequirements::upto(&terms, domain(token), keys.payment.address(), 300)
}

fn domain(token: Address) -> TokenDomain<'static> {
    if token == USDC {
        TokenDomain { name: "USD Coin", version: "2" }
    } else {
        TokenDomain { name: "OpenGradient", version: "1" }
    }
}

fn paid(offer: &PaymentRequirements, payer: &Wallet, nonce: u64, amount: u64) -> SettleRequest {
    let challenge =
        PaymentRequired::new(Resource::default(), vec![offer.clone()], "Payment required");
    let fresh = Fresh { nonce: U256::from(nonce), now_secs: now_secs() };
    SettleRequest {
        payment_payload: client::pay(&challenge, offer, payer, fresh).unwrap(),
        payment_requirements: PaymentRequirements { amount: amount.to_string(), ..offer.clone() },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_evidence_and_heartbeats_settle_on_the_real_contracts() {
    let network = Network::start().await;
    let tee = Tee::new(1);
    network.register(&tee).await;
    let running = Running::start(network.open());
    let facilitator = &running.facilitator;
    let (bob, alice) = (network.bob.address(), network.alice.address());

    // upto in both tokens, exact through Permit2 and through EIP-3009.
    let terms =
        EvmTerms { chain_id: PAYMENT_CHAIN, asset: USDC, amount: U256::from(30), pay_to: PAYEE };
    let exact_permit2 = PaymentRequirements::exact_permit2(&terms, domain(USDC), 300);
    let exact_eip3009 = PaymentRequirements::exact_eip3009(&terms, domain(USDC), 300);
    let requests = [
        paid(&upto(OPG, &network.keys, 1_000), &network.bob, 1, 10),
        paid(&upto(OPG, &network.keys, 1_000), &network.bob, 2, 1_000),
        paid(&upto(USDC, &network.keys, 1_000), &network.bob, 3, 20),
        paid(&exact_permit2, &network.bob, 4, 30),
        paid(&exact_eip3009, &network.bob, 5, 30),
    ];
    for request in &requests {
        let accepted = request.payment_payload.accepted.clone();
        let payment = facilitator.check(&request.payment_payload, &accepted).await.unwrap();
        let funds = facilitator.funds(&payment).await.unwrap();
        assert!(funds.available() >= payment.terms.amount && !funds.nonce_used);
        let job = facilitator.settle(request).await.unwrap();
        let done = running.done(&job.job_id).await;
        assert_eq!(done.status, Status::Succeeded, "{done:?}");
        assert_eq!(done.job_id, payments::job_id(payment.identity.id()));
        assert!(facilitator.funds(&payment).await.unwrap().nonce_used);
        let again = facilitator.check(&request.payment_payload, &accepted).await.unwrap_err();
        assert!(matches!(
            again.code(),
            "permit2_invalid_nonce" | "invalid_exact_evm_nonce_already_used"
        ));
    }
    let numbers = |numbers: &[u64]| numbers.iter().map(|n| U256::from(*n)).collect::<Vec<_>>();
    assert_eq!(network.charges(OPG, bob).await, numbers(&[10, 1_000]));
    assert_eq!(network.charges(USDC, bob).await, numbers(&[20, 30, 30]));

    // What the contracts would refuse is named; a signed EIP-2612 permit stands for the allowance.
    let offer = upto(USDC, &network.keys, 500);
    let mut request = paid(&offer, &network.alice, 1, 40);
    let refused = facilitator.check(&request.payment_payload, &offer).await.unwrap_err();
    assert_eq!(refused.code(), "permit2_allowance_required");
    let rich = paid(&upto(USDC, &network.keys, 10_001), &network.alice, 2, 1);
    let refused =
        facilitator.check(&rich.payment_payload, &rich.payment_payload.accepted).await.unwrap_err();
    assert_eq!(refused.code(), "permit2_insufficient_balance");
    let permit = eip712::Permit {
        owner: alice,
        spender: PERMIT2,
        value: U256::from(500),
        nonce: U256::ZERO,
        deadline: U256::from(now_secs() + 300),
    };
    let token = eip712::TokenContract {
        name: "USD Coin",
        version: "2",
        chain_id: PAYMENT_CHAIN,
        address: USDC,
    };
    let info = json!({
        "from": alice.to_string(), "asset": USDC.to_string(), "spender": PERMIT2.to_string(), "amount": "500",
        "nonce": "0", "deadline": permit.deadline.to_string(), "version": "1",
        "signature": network.alice.sign(&eip712::eip2612_digest(&permit, &token)).to_bytes(),
    });
    request.payment_payload.extensions =
        Some(Members::from([(EIP2612_GAS_SPONSORING.to_owned(), json!({ "info": info }))]));
    facilitator.check(&request.payment_payload, &offer).await.unwrap();
    let job = facilitator.settle(&request).await.unwrap();
    assert_eq!(running.done(&job.job_id).await.status, Status::Succeeded);
    assert_eq!(network.charges(USDC, alice).await, numbers(&[40]));

    // Evidence: every leaf is verified by the chain's native verifier.
    let items: Vec<EvidenceItem> = (0..6).map(|n| tee.evidence(n)).collect();
    for item in &items {
        facilitator.settle_data(item.clone()).await.unwrap();
    }
    for item in &items {
        let done = running.done(&evidence::job_id(item.digest())).await;
        assert_eq!(done.status, Status::Succeeded, "{done:?}");
    }
    let settled = network.logs::<Relay::ReceiptSettled>(&network.network, RELAY).await;
    let mut digests: Vec<B256> = settled.iter().map(|(topics, _)| topics[1]).collect();
    let mut expected: Vec<B256> = items.iter().map(EvidenceItem::digest).collect();
    digests.sort();
    expected.sort();
    assert_eq!(digests, expected);
    for (topics, leaf) in &settled {
        let item = items.iter().find(|item| item.digest() == topics[1]).unwrap();
        assert_eq!((topics[3], leaf.as_ref()), (tee.id.0, item.leaf_hash().as_slice()));
    }
    let stranger = facilitator.settle_data(Tee::new(2).evidence(9)).await.unwrap_err();
    assert_eq!(stranger.code(), "tee_not_registered");

    // A heartbeat newer than the registration.
    let heartbeat = tee.heartbeat(now_secs());
    let relayed = facilitator.heartbeat(heartbeat.clone()).await.unwrap();
    assert_eq!(facilitator.heartbeat(heartbeat).await.unwrap(), relayed);
    let beats = network.logs::<ITEERegistry::HeartbeatReceived>(&network.network, REGISTRY).await;
    assert_eq!(beats.len(), 1);
    running.stop().await.unwrap();
    network.payment.stop().await.unwrap();
    network.network.stop().await.unwrap();
}

/// Kills the facilitator again and again while it works. The moments come from a seed; what it was doing is left to
/// chance, which is the point.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_settles_everything_once() {
    let network = Network::start().await;
    let tee = Tee::new(1);
    network.register(&tee).await;
    let offer = upto(OPG, &network.keys, 100);
    let requests: Vec<SettleRequest> = (1..=60).map(|n| paid(&offer, &network.bob, n, n)).collect();
    let items: Vec<EvidenceItem> = (1..=60).map(|n| tee.evidence(n)).collect();
    let mut seed = 7_u64;
    let mut handed_over = 0;
    let mut kills = 0;
    while handed_over < requests.len() {
        let running = Running::start(network.open());
        seed = u64::from_be_bytes(keccak256(seed.to_be_bytes())[..8].try_into().unwrap());
        let pause = Duration::from_millis(seed % 60);
        let work = async {
            for (request, item) in requests.iter().zip(&items).skip(handed_over) {
                running.facilitator.settle(request).await.unwrap();
                running.facilitator.settle_data(item.clone()).await.unwrap();
                handed_over += 1;
            }
        };
        tokio::select! {
            () = work => {}
            () = tokio::time::sleep(pause) => {}
        }
        running.kill().await;
        kills += 1;
    }
    let running = Running::start(network.open());
    let mut statuses: BTreeMap<&str, usize> = BTreeMap::new();
    for (request, item) in requests.iter().zip(&items) {
        let payment = running.facilitator.settle(request).await.unwrap();
        let evidence = running.facilitator.settle_data(item.clone()).await.unwrap();
        for job in [payment, evidence] {
            let done = running.done(&job.job_id).await;
            assert_eq!(done.status, Status::Succeeded, "{done:?}");
            *statuses
                .entry(if done.queue == "payments" { "paid" } else { "anchored" })
                .or_default() += 1;
        }
    }
    running.stop().await.unwrap();
    let expected: Vec<U256> = (1..=60).map(U256::from).collect();
    assert_eq!(network.charges(OPG, network.bob.address()).await, expected);
    let settled = network.logs::<Relay::ReceiptSettled>(&network.network, RELAY).await;
    let digests: std::collections::BTreeSet<B256> =
        settled.iter().map(|(topics, _)| topics[1]).collect();
    assert_eq!((settled.len(), digests.len()), (60, 60));
    assert_eq!(statuses, BTreeMap::from([("paid", 60), ("anchored", 60)]));
    println!("killed {kills} times");
    assert!(kills > 3);
}
