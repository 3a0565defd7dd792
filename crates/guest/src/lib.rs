//! Read-only model of a guest and its boot verdict.
