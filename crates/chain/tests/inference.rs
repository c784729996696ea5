//! The native verifier of inferences, asked as a contract or a client asks it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and reports by printing"
)]

mod support;

use std::sync::Arc;
use std::time::Instant;

use alloy_primitives::{B256, Bytes, FixedBytes};
use alloy_sol_types::SolCall;
use og_chain::{At, CallRequest, CallResult, Chain, Storage};
use og_contracts::IInference::{reexecuteCall, verifyCall};
use og_contracts::addresses::INFERENCE_PRECOMPILE;
use og_prove::opener::Opener;
use og_prove::trace::Prepared;
use og_prove::whir::WhirOpener;
use og_zkml::hyrax::Hyrax;
use og_zkml::model::{Commitments, Model};
use og_zkml::proof_file::ProofFile;
use og_zkml::qir::{Builder, Linear, NodeWeights, Op, Requant, Tensor, Weights};
use og_zkml::scheme::{Backend, Mode, Scheme};
use support::*;

/// A name, and what is changed about a call.
type Change<T> = (&'static str, fn(&mut T));

/// A perceptron of some thousand weights, its commitments and an input.
struct World {
    chain: Chain,
    model: Arc<Model>,
    commitments: Commitments,
    input: Tensor,
}

impl World {
    fn new() -> Self {
        let (wide, cells, classes) = (60_u32, 32_u32, 4_u32);
        let mut b = Builder::new("perceptron");
        let x = b.input("x", &[1, wide], -32767, 32767, 12).unwrap();
        let h = b.push(Op::Linear(Linear::dense(1, wide, cells).with_bias(30)), &[x], 24).unwrap();
        let h = b.push(Op::Requant(Requant::shift(12, 0, 32767)), &[h], 12).unwrap();
        let y = b.push(Op::Linear(Linear::dense(1, cells, classes)), &[h], 24).unwrap();
        b.output("y", y).unwrap();
        let program = b.finish().unwrap();
        let weight = |i: u32| i16::try_from((i * 7919) % 4001).unwrap() - 2000;
        let matrix = |n: u32| (0..n).map(weight).collect();
        let bias = (0..i64::from(cells)).map(|i| i * 1000 - 9).collect();
        let nodes = vec![
            NodeWeights { matrix: matrix(wide * cells), bias },
            NodeWeights { matrix: matrix(cells * classes), bias: vec![] },
        ];
        let weights = Weights::new(&program, nodes).unwrap();
        let model = Arc::new(Model::new(program, weights).unwrap());
        let commitments = Commitments::of(&model).unwrap();
        let values = (0..i64::from(wide)).map(|i| (i * 31) % 4096 - 1000).collect();
        let mut genesis = genesis();
        genesis.alloc.insert(at(0xd0), contract(&forward(INFERENCE_PRECOMPILE, 0xfa)));
        let chain = Chain::open(&Storage::Memory, genesis).unwrap();
        Self { chain, model, commitments, input: Tensor { shape: vec![1, wide], values } }
    }

    fn id(&self) -> B256 {
        B256::from(self.commitments.digests().model_id().0)
    }

    fn file<O: Opener>(&self, mode: Mode) -> ProofFile {
        let digests = *self.commitments.digests();
        let other = match O::S::BACKEND {
            Backend::Hyrax => digests.whir,
            Backend::Whir => digests.hyrax,
        };
        let prepared = Prepared::<O>::new(Arc::clone(&self.model), other).unwrap();
        let inputs = vec![vec![self.input.clone()]];
        let proof = match mode {
            Mode::Trace => og_prove::trace::prove(&prepared, &inputs).unwrap(),
            Mode::Succinct => og_prove::succinct::prove(&prepared, &inputs).unwrap(),
        };
        prepared.file(inputs, proof)
    }

    fn verify_call(&self, file: &ProofFile) -> verifyCall {
        verifyCall {
            modelId: self.id(),
            mode: FixedBytes([file.mode.code()]),
            inputs: self.input.values.clone(),
            outputs: file.outputs[0][0].values.clone(),
            proof: file.encode().unwrap().into(),
        }
    }

    fn reexecute_call(&self) -> reexecuteCall {
        let digests = self.commitments.digests();
        reexecuteCall {
            modelId: self.id(),
            model: self.model.encode().into(),
            commitmentH: digests.hyrax.into(),
            commitmentW: digests.whir.into(),
            inputs: self.input.values.clone(),
        }
    }

    fn ask(&self, input: Vec<u8>, gas: u64) -> (CallResult, u64) {
        let request = CallRequest {
            to: Some(INFERENCE_PRECOMPILE),
            input: input.into(),
            gas: Some(gas),
            ..Default::default()
        };
        let outcome = self.chain.call(&request, At::Latest, 0).unwrap();
        (outcome.result, outcome.gas_used)
    }

    fn answer(&self, input: Vec<u8>) -> Bytes {
        match self.ask(input, 30_000_000).0 {
            CallResult::Success { output } => output,
            other => panic!("{other:?}"),
        }
    }

    fn holds(&self, call: &verifyCall) -> bool {
        verifyCall::abi_decode_returns(&self.answer(call.abi_encode())).unwrap()
    }
}

#[test]
fn proofs_of_both_backends_hold_for_what_they_prove_and_nothing_else() {
    let world = World::new();
    for file in [Mode::Trace, Mode::Succinct]
        .into_iter()
        .flat_map(|mode| [world.file::<Hyrax>(mode), world.file::<WhirOpener>(mode)])
    {
        let call = world.verify_call(&file);
        let begun = Instant::now();
        assert!(world.holds(&call), "{}", file.backend);
        let took = begun.elapsed();
        let (result, gas) = world.ask(call.abi_encode(), 30_000_000);
        assert!(matches!(result, CallResult::Success { .. }));
        println!("backend {}: {} bytes, {took:?}, {gas} gas", file.backend, call.proof.len());

        let changes: [Change<verifyCall>; 6] = [
            ("model", |call| call.modelId.0[0] ^= 1),
            ("mode", |call| call.mode.0[0] ^= b'T' ^ b'S'),
            ("input", |call| call.inputs[3] += 1),
            ("one input more", |call| call.inputs.push(0)),
            ("output", |call| call.outputs[0] -= 1),
            ("no proof", |call| call.proof = Bytes::new()),
        ];
        for (name, change) in changes {
            let mut call = call.clone();
            change(&mut call);
            assert!(!world.holds(&call), "{name}");
        }
        for at in (0..call.proof.len()).step_by(97) {
            let mut changed = call.clone();
            let mut proof = call.proof.to_vec();
            proof[at] ^= 0x10;
            changed.proof = proof.into();
            assert!(!world.holds(&changed), "byte {at}");
        }
    }
}

#[test]
fn a_model_is_executed_again_bit_for_bit() {
    let world = World::new();
    let call = world.reexecute_call();
    let found = |call: &reexecuteCall| {
        reexecuteCall::abi_decode_returns(&world.answer(call.abi_encode())).unwrap()
    };
    let expected = world.file::<WhirOpener>(Mode::Trace).outputs[0][0].values.clone();
    let again = found(&call);
    assert!(again.valid);
    assert_eq!(again.outputs, expected);

    let changes: [Change<reexecuteCall>; 6] = [
        ("another id", |call| call.modelId.0[31] ^= 1),
        ("another commitment", |call| call.commitmentW.0[0] ^= 1),
        ("a changed weight", |call| {
            let mut model = call.model.to_vec();
            *model.last_mut().unwrap() ^= 1;
            call.model = model.into();
        }),
        ("no model", |call| call.model = Bytes::new()),
        ("an input too few", |call| {
            call.inputs.pop();
        }),
        ("an input out of range", |call| call.inputs[0] = 40_000),
    ];
    for (name, change) in changes {
        let mut call = call.clone();
        change(&mut call);
        let refused = found(&call);
        assert!(!refused.valid && refused.outputs.is_empty(), "{name}");
    }
}

#[test]
fn gas_is_charged_before_the_work_and_malformed_calls_burn_it() {
    let world = World::new();
    let file = world.file::<Hyrax>(Mode::Trace);
    let verify = world.verify_call(&file).abi_encode();
    let (result, used) = world.ask(verify.clone(), 30_000_000);
    assert!(matches!(result, CallResult::Success { .. }));
    let (result, burnt) = world.ask(verify.clone(), used - 1);
    assert!(matches!(result, CallResult::Halt { .. }), "{result:?}");
    assert_eq!(burnt, used - 1);
    for input in [verify, world.reexecute_call().abi_encode()] {
        let (result, _) = world.ask(input[..input.len() - 40].to_vec(), 5_000_000);
        assert!(matches!(result, CallResult::Halt { .. }), "{result:?}");
    }
}
