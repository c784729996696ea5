//! Verify evidence and inferences natively: the precompiles at `0x…0900`, `0x…0901` and `0x…0903`.
//!
//! | Address | Function | Gas |
//! |---|---|---|
//! | `0x…0900` | `verifyAttestation(bytes,bytes,bytes,bytes)` | 500,000 and more for long certificate chains |
//! | `0x…0900` | `verifyRSAPSS(bytes,bytes32,bytes)` | 20,000 and more for keys above 2048 bits |
//! | `0x…0901` | `appraise(bytes,bytes,bytes)` | as `verifyAttestation` |
//! | `0x…0901` | `genesisHash()` | 100 |
//! | `0x…0903` | `verify(bytes32,bytes1,int64[],int64[],bytes)` | by size, backend and work |
//! | `0x…0903` | `reexecute(bytes32,bytes,bytes32,bytes32,int64[])` | by size and work |
//!
//! They read no state but the block's time, so CALL, STATICCALL and DELEGATECALL answer the same. Evidence that
//! does not verify is an answer (`false`, zeros); calldata that does not decode, an unknown selector and a call
//! that carries value burn the forwarded gas, as the original does. Gas is charged before the work it pays for,
//! in full also when the answer is remembered.

mod inference;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::map::AddressSet;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::{SolCall, SolInterface};
use og_attest::{Root, appraisal, legacy};
use og_contracts::addresses::{EVIDENCE_PRECOMPILE, INFERENCE_PRECOMPILE, TEE_VERIFIER_PRECOMPILE};
use og_contracts::{Appraisal, IEvidence, IInference, ITEEVerifier};
use revm::context_interface::{Block, Cfg, ContextTr, JournalTr, LocalContextTr};
use revm::handler::{EthPrecompiles, PrecompileProvider, precompile_output_to_interpreter_result};
use revm::interpreter::{CallInputs, InterpreterResult};
use revm::precompile::{PrecompileHalt, PrecompileOutput};
use revm::primitives::hardfork::SpecId;

use crate::evm::SPEC;

/// Addresses that hold [`CODE`] from genesis on.
pub(crate) const CODED: [Address; 3] =
    [TEE_VERIFIER_PRECOMPILE, EVIDENCE_PRECOMPILE, INFERENCE_PRECOMPILE];

/// Code at the native addresses, so that Solidity's `extcodesize` check passes. It is never run.
pub(crate) const CODE: [u8; 1] = [0xfe];

/// Gas of `genesisHash()`.
const GENESIS_HASH_GAS: u64 = 100;

/// Answers that are remembered; one takes some 300 bytes.
const ANSWERS_MAX: usize = 1024;

/// What the native precompiles of one chain know, shared by all its executions.
#[derive(Debug)]
pub(crate) struct Native {
    roots: Vec<Root>,
    genesis_hash: B256,
    answers: Mutex<Answers>,
}

/// Answers by the hash of what was asked. The functions are pure, so remembering changes time only.
#[derive(Debug, Default)]
struct Answers {
    by_question: BTreeMap<B256, Bytes>,
    oldest_first: VecDeque<B256>,
}

impl Native {
    pub(crate) fn new(roots: Vec<Root>, genesis_hash: B256) -> Self {
        Self { roots, genesis_hash, answers: Mutex::default() }
    }

    /// The answer to a call, or the gas it lacks, or `Err` when the call itself is malformed.
    fn answer(
        &self,
        at: Address,
        input: &[u8],
        time: u64,
        gas_limit: u64,
    ) -> Result<Answer, alloy_sol_types::Error> {
        if at == TEE_VERIFIER_PRECOMPILE {
            self.answer_tee_verifier(input, time, gas_limit)
        } else if at == INFERENCE_PRECOMPILE {
            self.answer_inference(input, gas_limit)
        } else {
            self.answer_evidence(input, time, gas_limit)
        }
    }

    fn answer_tee_verifier(
        &self,
        input: &[u8],
        time: u64,
        gas_limit: u64,
    ) -> Result<Answer, alloy_sol_types::Error> {
        use ITEEVerifier::{
            ITEEVerifierCalls as Calls, verifyAttestationCall, verifyAttestationReturn,
            verifyRSAPSSCall,
        };
        match Calls::abi_decode(input)? {
            Calls::verifyAttestation(call) => {
                let gas = || legacy::attestation_gas(&call.attestationDocument);
                let Some(gas) = charge(legacy::VERIFY_ATTESTATION_GAS, gas, gas_limit) else {
                    return Ok(Answer::OutOfGas);
                };
                let output = self.remembered(TEE_VERIFIER_PRECOMPILE, input, time, || {
                    let (valid, pcr_hash) = legacy::verify_attestation(
                        &call.attestationDocument,
                        &call.signingPublicKey,
                        &call.tlsCertificate,
                        &call.rootCertificate,
                        &self.roots,
                        time,
                    );
                    verifyAttestationCall::abi_encode_returns(&verifyAttestationReturn {
                        valid,
                        pcrHash: pcr_hash,
                    })
                });
                Ok(Answer::Output { gas, output })
            }
            Calls::verifyRSAPSS(call) => {
                let gas = || legacy::rsa_pss_gas(&call.publicKeyDER);
                let Some(gas) = charge(legacy::VERIFY_RSA_PSS_GAS, gas, gas_limit) else {
                    return Ok(Answer::OutOfGas);
                };
                // The time does not matter here, so one answer serves every block.
                let output = self.remembered(TEE_VERIFIER_PRECOMPILE, input, 0, || {
                    let valid = legacy::verify_rsa_pss(
                        &call.publicKeyDER,
                        call.messageHash,
                        &call.signature,
                    );
                    verifyRSAPSSCall::abi_encode_returns(&valid)
                });
                Ok(Answer::Output { gas, output })
            }
        }
    }

    fn answer_evidence(
        &self,
        input: &[u8],
        time: u64,
        gas_limit: u64,
    ) -> Result<Answer, alloy_sol_types::Error> {
        use IEvidence::{IEvidenceCalls as Calls, appraiseCall, genesisHashCall};
        match Calls::abi_decode(input)? {
            Calls::genesisHash(_) => {
                if gas_limit < GENESIS_HASH_GAS {
                    return Ok(Answer::OutOfGas);
                }
                let output = genesisHashCall::abi_encode_returns(&self.genesis_hash).into();
                Ok(Answer::Output { gas: GENESIS_HASH_GAS, output })
            }
            Calls::appraise(call) => {
                let gas = || legacy::attestation_gas(&call.document);
                let Some(gas) = charge(legacy::VERIFY_ATTESTATION_GAS, gas, gas_limit) else {
                    return Ok(Answer::OutOfGas);
                };
                let output = self.remembered(EVIDENCE_PRECOMPILE, input, time, || {
                    let found = appraisal::appraise(
                        &call.document,
                        &call.signingKey,
                        &call.tlsCertificate,
                        &self.roots,
                        time,
                    );
                    appraiseCall::abi_encode_returns(&found.map_or_else(
                        |_| Appraisal::default(),
                        |found| {
                            Appraisal {
                                valid: true,
                                simulated: found.simulated,
                                pcrHash: found.pcr_hash,
                                payloadHash: found.payload_hash,
                                timestampMs: found.timestamp_ms,
                                nonce: found.nonce.into(),
                                receiptKey: found
                                    .bound_keys
                                    .as_ref()
                                    .map_or_else(Bytes::new, |keys| keys.receipt_key.into()),
                                hpkeKey: found
                                    .bound_keys
                                    .as_ref()
                                    .map_or(B256::ZERO, |keys| keys.hpke_key.into()),
                            }
                        },
                    ))
                });
                Ok(Answer::Output { gas, output })
            }
        }
    }

    fn answer_inference(
        &self,
        input: &[u8],
        gas_limit: u64,
    ) -> Result<Answer, alloy_sol_types::Error> {
        use IInference::{IInferenceCalls as Calls, reexecuteCall, reexecuteReturn, verifyCall};
        match Calls::abi_decode(input)? {
            Calls::verify(call) => {
                let Some(charged) = inference::charge_verify(&call, input.len(), gas_limit) else {
                    return Ok(Answer::OutOfGas);
                };
                let output = self.remembered(INFERENCE_PRECOMPILE, input, 0, || {
                    verifyCall::abi_encode_returns(&inference::verify(&call, &charged))
                });
                Ok(Answer::Output { gas: charged.gas, output })
            }
            Calls::reexecute(call) => {
                let charged = inference::charge_reexecute(&call, input.len(), gas_limit);
                let Some(charged) = charged else { return Ok(Answer::OutOfGas) };
                let found = inference::reexecute(&call, &charged);
                let (valid, outputs) = (found.is_some(), found.unwrap_or_default());
                let output =
                    reexecuteCall::abi_encode_returns(&reexecuteReturn { valid, outputs }).into();
                Ok(Answer::Output { gas: charged.gas, output })
            }
        }
    }

    fn remembered(
        &self,
        at: Address,
        input: &[u8],
        time: u64,
        work: impl FnOnce() -> Vec<u8>,
    ) -> Bytes {
        let question =
            keccak256([at.as_slice(), &time.to_be_bytes(), keccak256(input).as_slice()].concat());
        // Nothing can panic while the lock is held, so a poisoned one holds good data all the same.
        let lock = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().by_question.get(&question) {
            return known.clone();
        }
        let output = Bytes::from(work());
        let mut answers = lock();
        if answers.by_question.insert(question, output.clone()).is_none() {
            answers.oldest_first.push_back(question);
        }
        if answers.oldest_first.len() > ANSWERS_MAX
            && let Some(oldest) = answers.oldest_first.pop_front()
        {
            answers.by_question.remove(&oldest);
        }
        output
    }
}

/// The base is charged before the input is looked at closely, the rest before any cryptography.
fn charge(base: u64, total: impl FnOnce() -> u64, limit: u64) -> Option<u64> {
    if limit < base {
        return None;
    }
    let total = total().max(base);
    (total <= limit).then_some(total)
}

enum Answer {
    Output { gas: u64, output: Bytes },
    OutOfGas,
}

/// Ethereum's precompiles and the native ones.
#[derive(Debug)]
pub(crate) struct Precompiles {
    ethereum: EthPrecompiles,
    warm: AddressSet,
    native: Arc<Native>,
}

impl Precompiles {
    pub(crate) fn new(native: Arc<Native>) -> Self {
        let ethereum = EthPrecompiles::new(SPEC);
        let mut warm = ethereum.warm_addresses().clone();
        warm.extend(CODED);
        Self { ethereum, warm, native }
    }
}

impl<CTX> PrecompileProvider<CTX> for Precompiles
where
    CTX: ContextTr<Cfg: Cfg<Spec = SpecId>>,
{
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: SpecId) -> bool {
        PrecompileProvider::<CTX>::set_spec(&mut self.ethereum, spec)
    }

    fn run(
        &mut self,
        context: &mut CTX,
        inputs: &CallInputs,
    ) -> Result<Option<InterpreterResult>, String> {
        let at = inputs.bytecode_address;
        if !CODED.contains(&at) {
            return self.ethereum.run(context, inputs);
        }
        let answer = if inputs.transfers_value() {
            Err("the native verifiers take no value".to_owned())
        } else {
            let time = u64::try_from(context.block().timestamp()).unwrap_or(u64::MAX);
            let input = inputs.input.as_bytes(context);
            self.native
                .answer(at, &input, time, inputs.gas_limit)
                .map_err(|source| format!("call of a native verifier: {source}"))
        };
        let output = match answer {
            Ok(Answer::Output { gas, output }) => {
                PrecompileOutput::new(gas, output, inputs.reservoir)
            }
            Ok(Answer::OutOfGas) => {
                PrecompileOutput::halt(PrecompileHalt::OutOfGas, inputs.reservoir)
            }
            Err(reason) => {
                if context.journal().depth() == 1 {
                    context.local_mut().set_precompile_error_context(reason.clone());
                }
                PrecompileOutput::halt(PrecompileHalt::Other(reason.into()), inputs.reservoir)
            }
        };
        Ok(Some(precompile_output_to_interpreter_result(output, inputs.gas_limit)))
    }

    fn warm_addresses(&self) -> &AddressSet {
        &self.warm
    }
}

/// Whether an address is a precompile of this chain.
pub(crate) fn is_precompile(address: Address) -> bool {
    CODED.contains(&address) || EthPrecompiles::new(SPEC).contains(&address)
}
