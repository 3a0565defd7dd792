//! Ctrl-C and SIGTERM: what runs ends in order.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::render::output::Failure;

/// A flag that the first signal sets. The second one ends the program as if there were no flag.
pub fn flag() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the default action counts once the flag is set.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| {
                Failure::new(
                    "host.signal",
                    report::Class::Environment,
                    format!("cannot catch signals: {error}"),
                )
            })?;
    }
    Ok(flag)
}
