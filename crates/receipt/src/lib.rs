//! Check a receipt or bundle offline.
