//! Stand in for the outside world in tests: mock upstream, accounts, processes.
