//! Price, meter and journal: pure ledger arithmetic and the exactly-once state machine.
//!
//! ```text
//! request ─▶ price::worst_case ─▶ Reserve ─┐
//! upstream answered, receipt signed ─▶ Answer ─┤        ┌─▶ records to append and fsync (journal::frame)
//! facilitator took it ─▶ HandOver ─┤─▶ ledger::step ─┤
//! payment chain says so ─▶ Settle / Reject ─┤        └─▶ outcome: go on, wait, return the stored answer
//! upstream failed ─▶ Release ─┘
//! ```
//!
//! The ledger does no I/O and reads no clock. A caller appends the records of a step to its log, makes them
//! durable, and only then acts on the outcome; after a crash it folds the log with [`Ledger::replay`] and is
//! where it was. A payment is charged at most once, with the total of the one receipt that was signed for it.
//!
//! | Module | Holds |
//! |---|---|
//! | [`price`] | prices per million tokens, costs and worst cases, in token base units |
//! | [`entry`] | one payment: its state, its bill, its exposure |
//! | [`ledger`] | the exactly-once state machine, exposure of payers, limits |
//! | [`record`] | what the log says, as deterministic CBOR |
//! | [`journal`] | frames around records, and how to read a log whose tail was torn by a crash |

pub mod entry;
pub mod journal;
pub mod ledger;
pub mod price;
pub mod record;

pub use ledger::{Effects, Entry, Input, Ledger, Limits, Outcome, Refused, State, step};
pub use price::{AssetId, PriceError, UnitPrice, Usage, prompt_token_bound};
pub use record::Record;
