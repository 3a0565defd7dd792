//! The command line: arguments, addresses, modes and owners. Nothing here touches an image.

pub mod address;
pub mod args;
pub mod batch;
pub mod bench;
pub mod convert;
pub mod mode;
