//! How results, failures and progress look.

pub mod board;
pub mod diff;
pub mod findings;
pub mod layers;
pub mod output;
pub mod progress;
pub mod table;
