//! Rules: check and plan.
