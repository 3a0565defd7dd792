//! One file a rule.

mod console;
mod drivers;
mod fstab_by_uuid;
mod grub;
mod identity;
mod image_format;
mod persistence;
mod root_by_uuid;

use cloudspec::{RuleKind, RuleSpec};
use vfs::GuestPath;

pub use drivers::{InjectionPlan, inject_modules};

use crate::plan::Context;
use crate::{Finding, FixError, Stage};

/// Checks one rule and stages what meets it.
pub(crate) fn run(
    spec: &RuleSpec,
    context: &Context<'_>,
    stage: &mut Stage<'_>,
) -> Result<Finding, FixError> {
    match &spec.kind {
        RuleKind::InitramfsDrivers { modules, buses } => drivers::run(spec, modules, buses, context, stage),
        RuleKind::InitramfsPersistence { modules, .. } => persistence::run(spec, modules, stage),
        RuleKind::RootByUuid => root_by_uuid::run(spec, context, stage),
        RuleKind::FstabByUuid => fstab_by_uuid::run(spec, context, stage),
        RuleKind::Console { devices } => console::run(spec, devices, stage),

        // Kernel arguments and swap.
        RuleKind::KernelArgs { .. } => pending(spec),

        RuleKind::ModuleParameters { .. } => pending(spec),

        RuleKind::SwapOff => pending(spec),

        // Programs and accounts.
        RuleKind::KernelConfig { .. } => pending(spec),

        RuleKind::Software { .. } => pending(spec),

        RuleKind::CloudInit { .. } => pending(spec),

        RuleKind::RelativeLinks { .. } => pending(spec),

        RuleKind::AccountFiles => pending(spec),

        RuleKind::Identity => Ok(identity::run(spec, context)),

        RuleKind::SelinuxMode { .. } => pending(spec),

        // Configuration files.
        RuleKind::RtcUtc => pending(spec),

        RuleKind::Sshd { .. } => pending(spec),

        RuleKind::TimeSync { .. } => pending(spec),

        RuleKind::FileContent { .. } => pending(spec),

        RuleKind::PipConfig { .. } => pending(spec),

        RuleKind::Sysctl { .. } => pending(spec),

        RuleKind::RootLock { .. } => pending(spec),

        // Services, network, what one machine leaves behind.
        RuleKind::ServiceOff { .. } => pending(spec),

        RuleKind::ServiceOn { .. } => pending(spec),

        RuleKind::Network { .. } => pending(spec),

        RuleKind::NoPersistentNames => pending(spec),

        RuleKind::Clean { .. } => pending(spec),

        // Disk.
        RuleKind::ImageFormat { allowed } => Ok(image_format::run(spec, allowed, context)),

        RuleKind::RootLast => pending(spec),

        RuleKind::PrimaryPartitions => pending(spec),

        RuleKind::OnlyRootPartition => pending(spec),

        RuleKind::PlainPartitions => pending(spec),

        RuleKind::NoSwapPartition { .. } => pending(spec),

        RuleKind::PartitionTable { .. } => pending(spec),

        RuleKind::DiskSize { .. } => pending(spec),

        RuleKind::Filesystems { .. } => pending(spec),

        RuleKind::Ext4Features { .. } => pending(spec),

        RuleKind::BootMode { .. } => pending(spec),

        RuleKind::Usage { .. } => pending(spec),
    }
}

/// Each kind gets its own arm and file; none is left here when the issue is done.
fn pending(spec: &RuleSpec) -> Result<Finding, FixError> {
    let finding =
        Finding::needs_action(spec, vec!["not examined by this version".into()], "Check it by hand.");
    Ok(finding)
}

/// A path that is written in the source.
fn path(literal: &str) -> GuestPath {
    GuestPath::root().join(literal)
}
