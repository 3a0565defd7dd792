//! Kernel-argument grammar and boot configuration files: token edits.
