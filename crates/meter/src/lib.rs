//! Price, meter and journal: pure ledger arithmetic and the exactly-once state machine.
