//! Development only: image recipes, reference-tool oracles, fault and crash devices.
