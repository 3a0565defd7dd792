//! qcow2 versions 2 and 3: read, and write as host-file plans.
