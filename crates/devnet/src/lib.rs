//! Run the whole network on one machine.
