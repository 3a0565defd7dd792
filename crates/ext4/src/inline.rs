//! Inline data
