//! A chain of one's own: genesis from the contracts crate, transactions sealed one by one, time by hand.

use std::sync::Arc;

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, Log, Signature, TxKind, U256, keccak256};
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{SolCall, SolError, SolEvent};
use og_attest::simulated::Measurements;
use og_chain::{
    At, CallRequest, CallResult, Chain, ExecutedBlock, Genesis, ProposeRequest, Recovered, Storage,
    TrustedRoot, TxOutcome,
};
use og_contracts::genesis::{
    ApprovedMeasurement, Funding, GenesisParams, base_alloc, opengradient_alloc,
};
use og_primitives::networks::{BASE_CHAIN_ID, OPENGRADIENT_CHAIN_ID};

/// Time of block 0, seconds.
pub(crate) const START: u64 = 1_770_000_000;
/// Seconds without a heartbeat after which an enclave is inactive.
pub(crate) const HEARTBEAT_MAX_AGE: u64 = 1800;

/// Everybody who acts in these tests.
pub(crate) struct People {
    pub(crate) admin: PrivateKeySigner,
    pub(crate) operator: PrivateKeySigner,
    pub(crate) relayer: PrivateKeySigner,
    pub(crate) alice: PrivateKeySigner,
    pub(crate) bob: PrivateKeySigner,
}

impl People {
    pub(crate) fn new() -> Self {
        let signer =
            |name: &str| PrivateKeySigner::from_bytes(&keccak256(name)).expect("a valid scalar");
        Self {
            admin: signer("admin"),
            operator: signer("operator"),
            relayer: signer("relayer"),
            alice: signer("alice"),
            bob: signer("bob"),
        }
    }

    fn params(&self) -> GenesisParams {
        let coin = U256::from(10).pow(U256::from(18));
        let funding =
            [&self.admin, &self.operator, &self.relayer, &self.alice, &self.bob].map(|person| {
                Funding {
                    address: person.address(),
                    native: coin * U256::from(100),
                    opg: coin * U256::from(10_000),
                    usdc: U256::from(10_000_000_000_u64),
                    permit2_allowance: person.address() == self.alice.address(),
                }
            });
        GenesisParams {
            operators: vec![self.operator.address()],
            relayers: vec![self.relayer.address()],
            approved_measurements: vec![ApprovedMeasurement {
                tee_type: 0,
                pcr_hash: Measurements::of_image("og-gateway").pcr_hash(),
                version: "0.1.0 (simulated)".to_owned(),
            }],
            funding: funding.to_vec(),
            ..GenesisParams::new(self.admin.address(), START)
        }
    }
}

/// A chain and its clock.
pub(crate) struct Network {
    pub(crate) chain: Chain,
    pub(crate) people: People,
    now_ms: u64,
}

impl Network {
    /// The OpenGradient chain, trusting the development root.
    pub(crate) fn opengradient() -> Self {
        let people = People::new();
        let alloc = opengradient_alloc(&people.params()).expect("committed artifacts");
        let mut genesis = Genesis::new(OPENGRADIENT_CHAIN_ID, START);
        genesis.alloc = alloc;
        let root = og_attest::roots::DEVELOPMENT;
        genesis.trusted_roots.push(TrustedRoot { sha256: root.sha256, simulated: root.simulated });
        Self::open(genesis, people)
    }

    /// The payment chain.
    pub(crate) fn base() -> Self {
        let people = People::new();
        let alloc = base_alloc(&people.params()).expect("committed artifacts");
        let mut genesis = Genesis::new(BASE_CHAIN_ID, START);
        genesis.alloc = alloc;
        Self::open(genesis, people)
    }

    fn open(genesis: Genesis, people: People) -> Self {
        let chain = Chain::open(&Storage::Memory, genesis).expect("a valid genesis");
        Self { chain, people, now_ms: START * 1000 }
    }

    /// The clock, seconds.
    pub(crate) fn now(&self) -> u64 {
        self.now_ms / 1000
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, seconds: u64) {
        self.now_ms += seconds * 1000;
    }

    /// Sends a transaction, seals it into a block of its own and returns what came of it.
    pub(crate) fn send<C: SolCall>(
        &mut self,
        from: &PrivateKeySigner,
        to: Address,
        call: &C,
    ) -> Sent {
        let tx = TxEip1559 {
            chain_id: self.chain.chain_id(),
            nonce: self.chain.nonce(from.address(), At::Latest).expect("readable"),
            gas_limit: 30_000_000,
            max_fee_per_gas: 2_000_000_000,
            max_priority_fee_per_gas: 0,
            to: TxKind::Call(to),
            input: call.abi_encode().into(),
            ..TxEip1559::default()
        };
        let signature = sign(from, tx.signature_hash());
        let tx =
            Recovered::new_unchecked(TxEnvelope::from(tx.into_signed(signature)), from.address());
        let proposal = self
            .chain
            .propose(ProposeRequest {
                parent: self.chain.head().hash,
                candidates: vec![tx],
                timestamp_ms: self.now_ms,
                beneficiary: Address::ZERO,
            })
            .expect("a block");
        assert!(proposal.rejected.is_empty(), "{:?}", proposal.rejected);
        self.chain.finalize(proposal.executed.hash, None).expect("finalised");
        Sent { block: proposal.executed }
    }

    /// As `send`, of a call that must succeed.
    pub(crate) fn sent<C: SolCall>(
        &mut self,
        from: &PrivateKeySigner,
        to: Address,
        call: &C,
    ) -> Sent {
        if let Err(data) = self.call(from.address(), to, call) {
            panic!("{} reverts with {data}", C::SIGNATURE);
        }
        let sent = self.send(from, to, call);
        assert!(sent.outcome().receipt.status(), "{} failed", C::SIGNATURE);
        sent
    }

    /// Asks; `Err` carries the revert data.
    pub(crate) fn call<C: SolCall>(
        &self,
        from: Address,
        to: Address,
        call: &C,
    ) -> Result<C::Return, Bytes> {
        let request = CallRequest {
            from: Some(from),
            to: Some(to),
            input: call.abi_encode().into(),
            gas: Some(60_000_000),
            ..CallRequest::default()
        };
        match self.chain.call(&request, At::Latest, self.now()).expect("answered").result {
            CallResult::Success { output } => Ok(C::abi_decode_returns(&output)
                .unwrap_or_else(|e| panic!("{}: {e}: {output}", C::SIGNATURE))),
            CallResult::Revert { output } => Err(output),
            CallResult::Halt { reason } => panic!("{} halts: {reason}", C::SIGNATURE),
        }
    }

    /// Gas that a question uses.
    pub(crate) fn gas_of<C: SolCall>(&self, to: Address, call: &C) -> u64 {
        let input = call.abi_encode().into();
        let request = CallRequest { to: Some(to), input, ..CallRequest::default() };
        self.chain.call(&request, At::Latest, self.now()).expect("answered").gas_used
    }

    /// Asks for something that does not revert.
    pub(crate) fn view<C: SolCall>(&self, to: Address, call: &C) -> C::Return {
        self.call(Address::ZERO, to, call)
            .unwrap_or_else(|data| panic!("{} reverts with {data}", C::SIGNATURE))
    }

    /// Asserts that a call reverts with exactly this error.
    #[track_caller]
    pub(crate) fn reverts<C: SolCall, E: SolError>(
        &self,
        from: Address,
        to: Address,
        call: &C,
        error: &E,
    ) {
        match self.call(from, to, call) {
            Ok(_) => panic!("{} does not revert with {}", C::SIGNATURE, E::SIGNATURE),
            Err(data) => {
                assert_eq!(data, Bytes::from(error.abi_encode()), "expected {}", E::SIGNATURE);
            }
        }
    }

    /// Asserts that a call reverts with `Error(string)`.
    #[track_caller]
    pub(crate) fn reverts_saying<C: SolCall>(
        &self,
        from: Address,
        to: Address,
        call: &C,
        reason: &str,
    ) {
        match self.call(from, to, call) {
            Ok(_) => panic!("{} does not revert", C::SIGNATURE),
            Err(data) => assert_eq!(og_chain::revert_reason(&data).as_deref(), Some(reason)),
        }
    }
}

/// A transaction in its block.
pub(crate) struct Sent {
    pub(crate) block: Arc<ExecutedBlock>,
}

impl Sent {
    pub(crate) fn outcome(&self) -> &TxOutcome {
        &self.block.outcomes[0]
    }

    /// The logs of one kind, in order.
    pub(crate) fn events<E: SolEvent>(&self) -> Vec<E> {
        let logs: &[Log] = self.outcome().receipt.logs();
        logs.iter().filter_map(|log| E::decode_log(log).ok()).map(|log| log.data).collect()
    }
}

/// A secp256k1 signature over a hash.
pub(crate) fn sign(signer: &PrivateKeySigner, hash: B256) -> Signature {
    let (signature, recovery) =
        signer.credential().sign_prehash_recoverable(hash.as_slice()).expect("32 bytes");
    Signature::from((signature, recovery))
}
