//! Verify and repeat inferences natively: the precompile at `0x…0903`.
//!
//! Both functions are pure: integers in, integers out, the same on every validator. What is not as it should be is an
//! answer (`false`, nothing), as with evidence. Gas is charged by size before anything is decoded, and by work, which
//! decoding tells, before anything is computed.

use og_contracts::IInference::{reexecuteCall, verifyCall};
use og_zkml::execute::execute;
use og_zkml::hyrax::column_bits;
use og_zkml::layout::Layout;
use og_zkml::model::{Digests, Model, ModelId};
use og_zkml::proof_file::ProofFile;
use og_zkml::qir::{Program, Tensor};
use og_zkml::scheme::{Backend, Mode, parameters, variables};
use og_zkml::succinct::Plan;
use og_zkml::trace;

/// Gas of any call, besides what follows.
const CALL_GAS: u64 = 20_000;

/// Gas for each byte of calldata: decoding and hashing it.
const BYTE_GAS: u64 = 8;

/// Elementary operations for one gas.
const OPERATIONS_PER_GAS: u64 = 4;

/// Gas of a check of an opening, backend W.
const WHIR_GAS: u64 = 150_000;

/// Gas of a check of an opening, backend H, for each point of the curve that it multiplies.
const POINT_GAS: u64 = 800;

/// Gas of an elementary operation in a proof of mode S: a multiplication of elements of the field.
const PRODUCT_GAS: u64 = 2;

/// Elements of all tensors of a program together: bounds memory to some 32 MB.
const ELEMENTS_MAX: usize = 1 << 22;

/// A call that was charged for, to be answered.
pub(super) struct Charged<T> {
    pub(super) gas: u64,
    job: Option<T>,
}

/// A proof that could be read.
pub(super) struct Proof(ProofFile);

/// A model that could be read, and its id.
pub(super) struct Repeat(Model, ModelId);

/// What a call costs by its size.
fn size_gas(calldata: usize) -> u64 {
    CALL_GAS.saturating_add(BYTE_GAS.saturating_mul(calldata as u64))
}

/// Charges for `verify`; `None` when `limit` is too little.
pub(super) fn charge_verify(
    call: &verifyCall,
    calldata: usize,
    limit: u64,
) -> Option<Charged<Proof>> {
    let gas = size_gas(calldata);
    if gas > limit {
        return None;
    }
    let Ok(file) = ProofFile::decode(&call.proof) else { return Some(Charged { gas, job: None }) };
    if !is_small(&file.program) {
        return Some(Charged { gas, job: None });
    }
    let Some((opening, work)) = checking_gas(&file) else {
        return Some(Charged { gas, job: None });
    };
    let gas = gas.saturating_add(opening).saturating_add(work);
    (gas <= limit).then_some(Charged { gas, job: Some(Proof(file)) })
}

/// Gas of checking the openings of a proof, and of the rest; `None` for a program that no proof covers.
fn checking_gas(file: &ProofFile) -> Option<(u64, u64)> {
    let weights = Layout::new(&file.program).ok()?.variables();
    let work = trace::cost(&file.program, file.inputs.len());
    if work > trace::DEFAULT_WORK {
        return None;
    }
    let (openings, widest, rows, work) = match file.mode {
        Mode::Trace => (1, weights, file.commitment.len(), work / OPERATIONS_PER_GAS),
        Mode::Succinct => {
            let plan = Plan::new(&file.program, file.inputs.len()).ok()?;
            let trace = if plan.has_sites() { variables(plan.trace_len()).ok()? } else { 0 };
            // No more rows than the proof has room for.
            let rows = file.commitment.len() + file.proof.len();
            (3, weights.max(trace), rows, work.saturating_mul(PRODUCT_GAS))
        }
    };
    let opening = match file.backend {
        Backend::Whir => openings * WHIR_GAS,
        Backend::Hyrax => POINT_GAS * ((1 << column_bits(widest)) + rows as u64 / 32),
    };
    Some((opening, work))
}

/// Whether the proof holds for this model, mode, inputs and outputs.
pub(super) fn verify(call: &verifyCall, charged: &Charged<Proof>) -> bool {
    let Some(Proof(file)) = &charged.job else { return false };
    let same = |tensors: &[Vec<Tensor>], stated: &[i64]| {
        tensors.iter().flatten().flat_map(|tensor| &tensor.values).eq(stated)
    };
    file.digests.model_id() == ModelId(call.modelId.0)
        && [file.mode.code()] == call.mode.0
        && same(&file.inputs, &call.inputs)
        && same(&file.outputs, &call.outputs)
        && file.verify(trace::DEFAULT_WORK).is_ok()
}

/// Charges for `reexecute`; `None` when `limit` is too little.
pub(super) fn charge_reexecute(
    call: &reexecuteCall,
    calldata: usize,
    limit: u64,
) -> Option<Charged<Repeat>> {
    let gas = size_gas(calldata);
    if gas > limit {
        return None;
    }
    let model = Model::decode(&call.model).ok().filter(|model| is_small(model.program()));
    let Some(model) = model else { return Some(Charged { gas, job: None }) };
    let gas = gas.saturating_add(model.program().work() / OPERATIONS_PER_GAS);
    let digests: Digests = model.digests(call.commitmentH.0, call.commitmentW.0, parameters());
    (gas <= limit).then_some(Charged { gas, job: Some(Repeat(model, digests.model_id())) })
}

/// The outputs of the model one after another; `None` for another model, or inputs that it does not take.
pub(super) fn reexecute(call: &reexecuteCall, charged: &Charged<Repeat>) -> Option<Vec<i64>> {
    let Repeat(model, id) = charged.job.as_ref()?;
    if *id != ModelId(call.modelId.0) {
        return None;
    }
    let mut rest = call.inputs.as_slice();
    let mut inputs = Vec::new();
    for port in model.program().inputs() {
        let (values, after) = rest.split_at_checked(port.ty.len())?;
        inputs.push(Tensor { shape: port.ty.shape.clone(), values: values.to_vec() });
        rest = after;
    }
    if !rest.is_empty() {
        return None;
    }
    let outcome = execute(model.program(), &inputs, &mut model.weights()).ok()?;
    Some(outcome.outputs.into_iter().flat_map(|tensor| tensor.values).collect())
}

fn is_small(program: &Program) -> bool {
    program.tensors().iter().map(|ty| ty.len()).sum::<usize>() <= ELEMENTS_MAX
}
