//! Mode S: honest proofs hold for random nets, and nothing but honest ones: every leaf of a proof, every way of cheating
//! we know, all witnesses of tiny nets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests"
)]

mod trace_support;

use og_prove::hyrax::Hyrax;
use og_prove::opener::Opener;
use og_prove::succinct::{Witness, prove, prove_mapped, run};
use og_prove::trace::Proof;
use og_prove::whir::WhirOpener;
use og_zkml::execute::execute;
use og_zkml::field::Field;
use og_zkml::model::Model;
use og_zkml::proof_file::verify_file;
use og_zkml::qir::{NodeWeights, Program, Tensor, Weights};
use og_zkml::scheme::{Mode, Scheme};
use og_zkml::succinct::{
    EVALUATIONS, Evaluations, OPENED, OPERAND, PRODUCTS, Quantity, ROUND, STATED, SiteNode, Source,
};
use og_zkml::trace::TraceError;
use og_zkml::transcript::Label;
use og_zkml::whir::Goldilocks2;
use std::sync::Arc;
use trace_support::case::{Case, maker, mixed, tiny, wide};
use trace_support::forge::change_every_leaf;
use trace_support::forge_succinct::{Forgery, HELPERS, TRACE};
use trace_support::nets::net;
use trace_support::{Clear, model, verify, verify_succinct};

#[derive(Debug, Default)]
struct Seen {
    plain: usize,
    pooled: usize,
    several: usize,
    stated: usize,
    hidden_operands: usize,
    nothing: usize,
    above: usize,
    below: usize,
    per_axis: usize,
    no_shift: usize,
}

#[test]
fn honest_proofs_of_random_nets_hold() {
    let mut seen = Seen::default();
    for seed in 0..500 {
        let case = Case::<Clear>::new(net(seed), 1 + seed as usize % 5, seed);
        let (program, plan) = (case.prepared.model().program(), &case.plan);
        for (inputs, outputs) in case.inputs.iter().zip(&case.outputs) {
            let outcome = execute(program, inputs, &mut case.prepared.model().weights());
            assert_eq!(outcome.unwrap().outputs, *outputs, "seed {seed}");
        }
        assert_eq!(case.lie(|_, _, _| {}), (case.outputs.clone(), case.witness.clone()));
        case.verdict(&case.outputs, &case.witness).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let nodes = plan.nodes();
        seen.pooled += nodes.iter().filter(|node| node.pooled).count();
        seen.plain += nodes.iter().filter(|node| !node.pooled).count();
        seen.several += usize::from(nodes.len() > 1);
        seen.nothing += usize::from(!plan.has_sites());
        seen.per_axis += nodes.iter().filter(|node| node.requant.multipliers.len() > 1).count();
        seen.no_shift += nodes.iter().filter(|node| node.requant.shift == 0).count();
        let stated = |node| plan.source(maker(program, node)) == Source::Stated;
        seen.stated += nodes.iter().filter(|node| stated(node.tensor)).count();
        seen.hidden_operands +=
            (0..program.linears().count()).filter(|&l| plan.operand(l).is_some()).count();
        let positive = |quantity: Quantity| {
            let column = case.witness.column(plan, quantity);
            usize::from(column.iter().any(|&value| value > 0))
        };
        seen.above += positive(Quantity::Above);
        seen.below += positive(Quantity::Below);
    }
    println!("{seen:?}");
    let Seen { plain, pooled, several, stated, hidden_operands, nothing, .. } = seen;
    let Seen { above, below, per_axis, no_shift, .. } = seen;
    for count in [plain, pooled, several, stated, hidden_operands, above, below, per_axis, no_shift]
    {
        assert!(count >= 50, "{seen:?}");
    }
    assert!(nothing >= 20, "{seen:?}");
}

/// The prover by definition writes the same bytes, for every backend; so do one thread and many.
#[test]
fn the_prover_is_the_one_by_definition() {
    fn check<O: Opener>(program: Program, batch: usize) {
        let case = Case::<O>::new(program, batch, 3);
        let fast = prove(&case.prepared, &case.inputs).unwrap();
        assert_eq!(case.forged(&case.outputs, &case.witness, &Forgery::none()), fast.bytes);
        assert_eq!(fast.outputs, case.outputs);
        verify_succinct(&case.prepared, &case.inputs, &case.outputs, &fast.bytes).unwrap();
    }
    (0..30).for_each(|seed| check::<Clear>(net(seed), 1 + seed as usize % 3));
    check::<Hyrax>(mixed(), 2);
    check::<WhirOpener>(mixed(), 2);
    check::<Hyrax>(net(2), 1);
    check::<WhirOpener>(net(2), 1);
}

#[test]
fn one_thread_and_many_write_the_same_bytes() {
    fn check<O: Opener>() {
        let case = Case::<O>::new(wide(4, 300), 3, 5);
        let bytes = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| prove(&case.prepared, &case.inputs).unwrap().bytes)
        };
        let one = bytes(1);
        verify_succinct(&case.prepared, &case.inputs, &case.outputs, &one).unwrap();
        assert_eq!(one, bytes(2));
        assert_eq!(one, bytes(5));
    }
    check::<Hyrax>();
    check::<WhirOpener>();
}

#[test]
fn every_leaf_matters() {
    fn check<O: Opener>(program: Program, batch: usize) {
        let case = Case::<O>::new(program, batch, 11);
        let proof = prove_mapped(&case.prepared, &case.inputs).unwrap();
        assert_eq!(prove(&case.prepared, &case.inputs).unwrap().bytes, proof.bytes);
        let holds = |bytes: &[u8]| {
            verify_succinct(&case.prepared, &case.inputs, &case.outputs, bytes).is_ok()
        };
        let (count, by_label) = change_every_leaf(&proof, holds);
        println!("{}: {count} changes, all refused: {by_label:?}", O::S::BACKEND);
    }
    check::<Hyrax>(mixed(), 2);
    check::<WhirOpener>(mixed(), 2);
    check::<WhirOpener>(wide(1, 140), 1);
}

#[test]
fn every_byte_of_a_file_matters() {
    fn check<O: Opener>() {
        let case = Case::<O>::new(tiny(&[2], 0, 1), 1, 21);
        let proof = prove(&case.prepared, &case.inputs).unwrap();
        let file = case.prepared.file(case.inputs.clone(), proof).encode().unwrap();
        assert_eq!(verify_file(&file, None).unwrap().mode, Mode::Succinct);
        let mut changed = file.clone();
        for at in 0..file.len() {
            changed[at] = file[at] ^ (1 << (at % 8));
            assert!(verify_file(&changed, None).is_err(), "byte {at} changed");
            changed[at] = file[at];
            assert!(verify_file(&file[..at], None).is_err(), "cut to {at} bytes");
        }
        changed.push(0);
        assert!(verify_file(&changed, None).is_err(), "a byte more");
        println!("{}: all of {} bytes", O::S::BACKEND, file.len());
    }
    check::<Hyrax>();
    check::<WhirOpener>();
}

#[test]
fn a_proof_is_for_one_model_one_mode_one_batch() {
    fn check<O: Opener>() {
        let case = Case::<O>::new(mixed(), 2, 31);
        let other = Case::<O>::of(&model(mixed(), 99), 2, 32);
        assert_eq!(case.inputs, other.inputs);
        let proof = prove(&case.prepared, &case.inputs).unwrap();
        let verdict = |case: &Case<O>, range: std::ops::Range<usize>, outputs: &[Vec<Tensor>]| {
            let outputs = &outputs[range.clone()];
            verify_succinct(&case.prepared, &case.inputs[range], outputs, &proof.bytes).is_ok()
        };
        assert!(verdict(&case, 0..2, &case.outputs));
        assert!(!verdict(&case, 0..1, &case.outputs), "half the batch");
        assert!(!verdict(&case, 0..0, &case.outputs), "no batch");
        assert!(!verdict(&other, 0..2, &case.outputs), "another model");
        assert!(!verdict(&other, 0..2, &other.outputs), "another model and its outputs");

        let of_t = og_prove::trace::prove(&case.prepared, &case.inputs).unwrap();
        let (prepared, inputs, outputs) = (&case.prepared, &case.inputs, &case.outputs);
        assert!(verify(prepared, inputs, outputs, &of_t.bytes).is_ok());
        assert!(verify(prepared, inputs, outputs, &proof.bytes).is_err(), "S is no T");
        assert!(verify_succinct(prepared, inputs, outputs, &of_t.bytes).is_err(), "T is no S");
        let file = |mode, bytes: &[u8]| {
            let proof = Proof { mode, bytes: bytes.to_vec(), ..proof.clone() };
            verify_file(&prepared.file(inputs.clone(), proof).encode().unwrap(), None)
        };
        assert!(file(Mode::Succinct, &proof.bytes).is_ok());
        assert!(file(Mode::Trace, &proof.bytes).is_err());
        assert!(file(Mode::Trace, &of_t.bytes).is_ok());
        assert!(file(Mode::Succinct, &of_t.bytes).is_err());
    }
    check::<Hyrax>();
    check::<WhirOpener>();
}

/// A result off by one, all after it in keeping, and the ways to hide it in the numbers of its site.
#[derive(Clone, Copy, Debug)]
enum Repair {
    /// What the decomposition gives: something is above or below where nothing may be.
    None,
    /// Nothing above or below: the accumulator is another.
    Quotient,
    /// The remainder makes up for it, and is negative or too large; its rest fits.
    Remainder,
    /// The same with the true rest.
    RemainderAlone,
    /// The largest of the window is another; or, where there is no window, as [`Repair::Quotient`].
    Gaps,
    /// The true `hi - y`, though `y` is another.
    Rest,
    /// All true numbers: only what others read is false.
    Operand,
}

fn repair(
    case: &Case<impl Opener>,
    lie: &mut Witness,
    node: &SiteNode,
    site: usize,
    by: i64,
    how: Repair,
) {
    let kind = usize::from(!node.pooled);
    let site = node.first + site;
    let true_value = |quantity: Quantity| case.witness.quantities[kind][quantity.index()][site];
    let mut add = |quantity: Quantity, to: i64, by: i64| {
        lie.quantities[kind][quantity.index()][site] = to + by;
    };
    let step = by << node.requant.shift;
    if !matches!(how, Repair::None | Repair::Rest) {
        for quantity in [Quantity::Above, Quantity::Below] {
            add(quantity, true_value(quantity), 0);
        }
    }
    match how {
        Repair::None | Repair::Quotient => {}
        Repair::Remainder | Repair::RemainderAlone => {
            add(Quantity::Remainder, true_value(Quantity::Remainder), -step);
            if matches!(how, Repair::Remainder) {
                add(Quantity::RemainderRest, true_value(Quantity::RemainderRest), step);
            }
        }
        Repair::Gaps => {
            for gap in (0..if node.pooled { case.plan.cells() } else { 0 }).map(Quantity::Gap) {
                add(gap, true_value(gap), step);
            }
        }
        Repair::Rest => add(Quantity::ValueRest, true_value(Quantity::ValueRest), 0),
        Repair::Operand => lie.quantities = case.witness.quantities.clone(),
    }
}

const REPAIRS: [Repair; 7] = [
    Repair::None,
    Repair::Quotient,
    Repair::Remainder,
    Repair::RemainderAlone,
    Repair::Gaps,
    Repair::Rest,
    Repair::Operand,
];

/// For each site of each node (or every `sparse`th): another result, however it is repaired, is refused.
fn false_results<O: Opener>(sparse: usize) {
    let case = Case::<O>::new(mixed(), 2, 41);
    case.verdict(&case.outputs, &case.witness).unwrap();
    let program = case.prepared.model().program();
    let (mut count, mut changed_outputs) = (0, 0);
    for node in case.plan.nodes() {
        for index in (0..2 * node.sites).step_by(sparse) {
            for by in [1, -1, 3] {
                let (batch, site, at) =
                    (index / node.sites, index % node.sites, maker(program, node.tensor));
                let (outputs, witness) = case.lie(|inference, node, values| {
                    if (inference, node) == (batch, at) {
                        values[site] += by;
                    }
                });
                for how in REPAIRS {
                    let mut lie = witness.clone();
                    repair(&case, &mut lie, node, index, by, how);
                    let verdict = case.verdict_or_unstated(&outputs, &lie);
                    assert!(verdict.is_err(), "{how:?} of {by} at {index} of {node:?}");
                    count += 1;
                    changed_outputs += usize::from(outputs != case.outputs);
                }
            }
        }
    }
    println!("{}: {count} lies, {changed_outputs} that change an output", O::S::BACKEND);
    assert!(changed_outputs > count / 2);
}

/// Other accumulators than the weights give, hidden or stated, with everything after them in keeping.
fn false_accumulators<O: Opener>() {
    let case = Case::<O>::new(mixed(), 2, 42);
    let program = case.prepared.model().program();
    for at in program.linears().map(|(node, _)| maker(program, node.output)) {
        for by in [1, -1, 64] {
            let (outputs, witness) = case.lie(|inference, node, values| {
                if (inference, node) == (1, at) {
                    values[0] += by;
                }
            });
            let found = case.verdict(&outputs, &witness).unwrap_err();
            assert_eq!(found, TraceError::Product, "{}: {by} at {at}", O::S::BACKEND);
        }
    }
}

#[test]
fn false_results_are_refused() {
    false_accumulators::<Clear>();
    false_accumulators::<Hyrax>();
    false_accumulators::<WhirOpener>();
    false_results::<Clear>(1);
    false_results::<Hyrax>(7);
    false_results::<WhirOpener>(7);
}
/// Limbs, multiplicities, helpers and messages that do not fit: the witness is true, what is sent is not.
#[test]
fn what_does_not_fit_is_refused() {
    type F = Goldilocks2;
    type OfTrace<'a> = &'a dyn Fn(&mut [i64]);
    type OfHelpers<'a> = &'a dyn Fn(&mut [F], F);
    let case = Case::<Clear>::new(mixed(), 2, 51);
    let verdict = |forgery: &Forgery<'_, F>| {
        let proof = case.forged(&case.outputs, &case.witness, forgery);
        verify_succinct(&case.prepared, &case.inputs, &case.outputs, &proof)
    };
    verdict(&Forgery::none()).unwrap();
    let (table, multiplicities) = (case.plan.table(), case.plan.multiplicities());
    let (groups, fractions) = (case.plan.groups(), case.plan.fractions());

    // The same number with a limb outside the table, made up for by the next limb: `limb + table` or `limb - table`.
    let sites = case.plan.boxes()[0];
    let planes: Vec<_> = case.plan.planes(sites.pooled).collect();
    let low = planes.windows(2).position(|pair| pair[0].0 == pair[1].0).unwrap();
    let (low, high) = (sites.offset + low * sites.len(), sites.offset + (low + 1) * sites.len());
    for carry in [1, -1] {
        for counted in [false, true] {
            let trace = |trace: &mut [i64]| {
                let before = [trace[low], trace[high]];
                trace[low] += carry * table as i64;
                trace[high] -= carry;
                // Perhaps claimed to be the numbers of the table that they are not.
                if counted && trace[high] >= 0 {
                    trace[multiplicities + before[1] as usize] -= 1;
                    trace[multiplicities + trace[high] as usize] += 1;
                }
            };
            verdict(&Forgery { trace: &trace, ..Forgery::none() }).unwrap_err();
        }
    }
    // A false multiplicity; two that add up; another number's; none at all.
    let most = |trace: &[i64]| (0..table).max_by_key(|&j| trace[multiplicities + j]).unwrap();
    let changes: [OfTrace<'_>; 4] = [
        &|trace| trace[multiplicities] += 1,
        &|trace| {
            trace[multiplicities] += 1;
            trace[multiplicities + 1] -= 1;
        },
        &|trace| {
            let j = most(trace);
            trace.swap(multiplicities + j, multiplicities + (j + 1) % table);
        },
        &|trace| trace[multiplicities..].fill(0),
    ];
    for (index, trace) in changes.into_iter().enumerate() {
        let found = verdict(&Forgery { trace, ..Forgery::none() });
        assert_eq!(found.unwrap_err(), TraceError::Product, "multiplicities {index}");
    }
    // A limb outside the table, with fractions that add up all the same; fractions that add up but are not the limbs'; none.
    let outside = |trace: &mut [i64]| trace[low] += table as i64;
    let balance = |helpers: &mut [F]| {
        let (of_groups, of_table) = helpers.split_at(fractions);
        let sum = |all: &[F]| all.iter().fold(F::ZERO, |sum, &helper| sum + helper);
        let missing = sum(of_groups) - sum(of_table);
        helpers[fractions] += missing;
    };
    let changes: [OfHelpers<'_>; 4] = [
        &|helpers, _| balance(helpers),
        &|helpers, _| {
            helpers[0] += F::ONE;
            balance(helpers);
        },
        &|helpers, _| {
            helpers[groups - 1] += F::ONE;
            helpers[0] -= F::ONE;
            balance(helpers);
        },
        &|helpers, _| helpers.fill(F::ZERO),
    ];
    for (index, helpers) in changes.into_iter().enumerate() {
        let trace: OfTrace<'_> = if index == 0 { &outside } else { &|_| {} };
        let found = verdict(&Forgery { trace, helpers, ..Forgery::none() });
        assert!(matches!(found, Err(TraceError::Constraint(_))), "helpers {index}: {found:?}");
    }
    // Messages off by something; evaluations in ways that the constraints do not see.
    let change = |label: Label, change: &dyn Fn(&mut [F])| {
        let elements = |sent: Label, elements: &mut [F]| {
            if sent == label {
                change(elements);
            }
        };
        verdict(&Forgery { elements: &elements, ..Forgery::none() }).unwrap_err()
    };
    for label in [PRODUCTS, OPERAND, OPENED] {
        assert_eq!(change(label, &|elements| elements[0] += F::ONE), TraceError::Product);
    }
    assert_eq!(change(EVALUATIONS, &|elements| elements.swap(3, 4)), TraceError::Product, "limbs");
    assert_eq!(change(EVALUATIONS, &|elements| elements.swap(11, 12)), TraceError::Product, "gaps");
    for index in 0..Evaluations::<F>::count(case.plan.cells()) {
        let found = change(EVALUATIONS, &|elements| elements[index] += F::ONE);
        assert!(matches!(found, TraceError::Constraint(_)), "evaluation {index}: {found}");
    }
}

/// Opened values that make all claims hold, whatever is claimed, do not open.
fn fitted<O: Opener>() {
    let case = Case::<O>::new(mixed(), 2, 61);
    let at = maker(case.prepared.model().program(), case.plan.nodes()[0].tensor);
    let (outputs, mut witness) = case.lie(|_, node, values| {
        if node == at {
            values[0] += if values[0] > 0 { -1 } else { 1 };
        }
    });
    witness.quantities.clone_from(&case.witness.quantities);
    for fit in 0..3 {
        let forgery = Forgery { fit: Some(fit), ..Forgery::none() };
        let proof = case.forged(&outputs, &witness, &forgery);
        let found = verify_succinct(&case.prepared, &case.inputs, &outputs, &proof).unwrap_err();
        assert!(
            matches!(found, TraceError::Opening(_)),
            "{}: vector {fit}: {found}",
            O::S::BACKEND
        );
    }
}

/// Proofs whose challenges do not depend on one of the messages that they must depend on.
fn omissions<O: Opener>() {
    let case = Case::<O>::new(wide(1, 150), 1, 71);
    let rounds = [ROUND, og_zkml::sumcheck::ROUND];
    let messages = [STATED, TRACE, HELPERS, EVALUATIONS, PRODUCTS, OPERAND, OPENED];
    for omitted in rounds.into_iter().chain(messages) {
        let forgery = Forgery { omit: Some(omitted), ..Forgery::none() };
        let proof = case.forged(&case.outputs, &case.witness, &forgery);
        let verdict = verify_succinct(&case.prepared, &case.inputs, &case.outputs, &proof);
        assert!(verdict.is_err(), "{}: {}", O::S::BACKEND, omitted.name());
    }
}

#[test]
fn opened_values_and_challenges_are_bound() {
    fitted::<Clear>();
    fitted::<Hyrax>();
    fitted::<WhirOpener>();
    omissions::<Hyrax>();
    omissions::<WhirOpener>();
}

/// All small numbers as the quantities of one site: exactly the executor's result has a witness, and only one.
#[test]
fn of_all_witnesses_only_the_true_ones_hold() {
    let (mut tried, mut held) = (0, 0);
    for (kernels, lo, hi, matrix) in [(&[1][..], 0, 1, vec![-2]), (&[2], -1, 0, vec![1, -1])] {
        let program = tiny(kernels, lo, hi);
        let second = NodeWeights { matrix: vec![1], bias: Vec::new() };
        let weights = vec![NodeWeights { matrix, bias: Vec::new() }, second];
        let weights = Weights::new(&program, weights).unwrap();
        let model = Arc::new(Model::new(program, weights).unwrap());
        for x in -2..=1 {
            let mut case = Case::<Clear>::of(&model, 1, 0);
            case.inputs[0][0].values = vec![x];
            let (program, weights) = (model.program(), model.weights());
            (case.outputs, case.witness) = run(&case.plan, program, weights, &case.inputs).unwrap();
            let honest = &case.witness.quantities[usize::from(kernels == [1])];
            let mut found = Vec::new();
            // Where there are gaps to run through, the rests are those that fit.
            let small: Vec<i64> = (-1..=2).collect();
            let (rest, outside, gap): (&[i64], &[i64], &[i64]) = if kernels == [1] {
                (&small, &[0, 1, 2], &[])
            } else {
                (&[0], &[0, 1], &[-1, 0, 1, 2, 3, 4])
            };
            for mut quantities in lists(&[&small, rest, &small, rest, outside, outside, gap, gap]) {
                if kernels != [1] {
                    quantities[1] = hi - lo - quantities[0];
                    quantities[3] = 1 - quantities[2];
                }
                let y = quantities[0] + lo;
                let mut witness = case.witness.clone();
                witness.quantities[usize::from(kernels == [1])] =
                    quantities.iter().map(|&q| vec![q]).collect();
                let (shown, result) =
                    (program.nodes().last().unwrap().output, case.plan.nodes()[0].tensor);
                witness.tensors[0][shown] = vec![y];
                witness.tensors[0][result] = vec![y];
                let outputs = vec![vec![Tensor { shape: vec![1, 1], values: vec![y] }]];
                if case.verdict_or_unstated(&outputs, &witness).is_ok() {
                    assert_eq!(outputs, case.outputs, "{quantities:?} for {x}");
                    found.push(quantities.into_iter().map(|q| vec![q]).collect::<Vec<_>>());
                }
                tried += 1;
            }
            assert_eq!(found, std::slice::from_ref(honest), "for {x}");
            held += found.len();
        }
    }
    println!("{tried} witnesses, {held} true");
}

/// All lists with one of each choice; an empty choice is left out.
fn lists(choices: &[&[i64]]) -> Vec<Vec<i64>> {
    choices.iter().filter(|choice| !choice.is_empty()).fold(vec![Vec::new()], |lists, choice| {
        let extended = |list: &Vec<i64>| {
            let list = list.clone();
            choice.iter().map(move |&next| [list.as_slice(), &[next]].concat())
        };
        lists.iter().flat_map(extended).collect()
    })
}

#[test]
fn a_stated_result_is_the_one_that_was_committed_to() {
    let case = Case::<Clear>::new(mixed(), 1, 1);
    let program = case.prepared.model().program();
    let node = case
        .plan
        .nodes()
        .iter()
        .find(|node| case.plan.source(maker(program, node.tensor)) == Source::Stated)
        .unwrap();
    let (mut outputs, mut witness) = (case.outputs.clone(), case.witness.clone());
    case.verdict(&outputs, &witness).unwrap();
    witness.tensors[0][node.tensor][1] -= 1;
    outputs[0][1].values[1] -= 3;
    assert!(case.verdict(&outputs, &witness).is_err(), "a false stated result");
}
