//! Run the payment exchange as a state machine over bytes.
