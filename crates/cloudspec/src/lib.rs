//! Profiles: what each cloud demands, as data.
