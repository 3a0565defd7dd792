//! One file a rule.

mod account_files;
mod arguments;
mod boot_fallback;
mod boot_mode;
mod clean;
mod cloud_init;
mod console;
mod disk_size;
mod drivers;
mod file_content;
mod filesystems;
mod fstab_by_uuid;
mod identity;
mod image_format;
mod kernel_args;
mod kernel_config;
mod layout;
mod module_parameters;
mod network;
mod persistence;
mod persistent_names;
mod pip;
mod relative_links;
mod root_by_uuid;
mod root_lock;
mod rtc;
mod selinux_mode;
mod service_off;
mod service_on;
mod services;
mod software;
mod sshd;
mod swap_off;
mod sysctl;
mod time_sync;
mod usage;

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
        RuleKind::InitramfsPersistence { modules, dracut_file, dracut_names } => {
            let (dracut_file, dracut_names) = (dracut_file.as_deref(), dracut_names.as_deref());
            persistence::run(spec, &persistence::Demand { modules, dracut_file, dracut_names }, stage)
        }
        RuleKind::RootByUuid => root_by_uuid::run(spec, context, stage),
        RuleKind::FstabByUuid => fstab_by_uuid::run(spec, context, stage),
        RuleKind::Console { devices } => console::run(spec, devices, context, stage),

        // Kernel arguments and swap.
        RuleKind::KernelArgs { arguments } => kernel_args::run(spec, arguments, context, stage),

        RuleKind::ModuleParameters { module, older_module, parameters, value } => {
            let older_module = older_module.as_deref();
            let demand = module_parameters::Demand { module, older_module, parameters, value: *value };
            module_parameters::run(spec, &demand, context, stage)
        }

        RuleKind::SwapOff => swap_off::run(spec, context, stage),

        // Programs and accounts.
        RuleKind::KernelConfig { option, module } => {
            kernel_config::run(spec, option, module.as_deref(), context, stage)
        }

        RuleKind::Software { name, paths, packages, minimum, obtain } => {
            let (minimum, obtain) = (minimum.as_deref(), obtain.as_deref());
            let demand = software::Demand { name, paths, packages, minimum, obtain };
            software::run(spec, &demand, context, stage)
        }

        RuleKind::CloudInit { datasources, drop_in, content, ssh_pwauth } => {
            let demand = cloud_init::Demand { datasources, drop_in, content, ssh_pwauth };
            cloud_init::run(spec, &demand, context, stage)
        }

        RuleKind::RelativeLinks { paths } => relative_links::run(spec, paths, stage),

        RuleKind::AccountFiles => account_files::run(spec, stage),

        RuleKind::Identity => Ok(identity::run(spec, context)),

        RuleKind::SelinuxMode { mode } => selinux_mode::run(spec, mode, context, stage),

        // Configuration files.
        RuleKind::RtcUtc => rtc::run(spec, context, stage),

        RuleKind::Sshd { settings, older_than, older_settings } => {
            sshd::run(spec, settings, older_than.as_deref(), older_settings, stage)
        }

        RuleKind::TimeSync { .. } => time_sync::run(spec, context, stage),

        RuleKind::FileContent { path, content } => file_content::run(spec, path, content, stage),

        RuleKind::PipConfig { mode, index_url, trusted_host } => {
            pip::run(spec, mode, index_url, trusted_host, stage)
        }

        RuleKind::Sysctl { settings } => sysctl::run(spec, settings, context, stage),

        RuleKind::RootLock { field } => root_lock::run(spec, field, stage),

        // Services, network, what one machine leaves behind.
        RuleKind::ServiceOff { services, mask } => service_off::run(spec, services, *mask, stage),

        RuleKind::ServiceOn { services } => service_on::run(spec, services, stage),

        RuleKind::Network { interface, stack, kernel_names } => {
            let demand = network::Demand { interface, stack, kernel_names: *kernel_names };
            network::run(spec, &demand, stage)
        }

        RuleKind::NoPersistentNames => persistent_names::run(spec, context, stage),

        RuleKind::Clean { item, remove, truncate, empty, remade_by } => {
            clean::run(spec, &clean::Item { name: item, remove, truncate, empty, remade_by }, stage)
        }

        // Disk.
        RuleKind::ImageFormat { allowed } => Ok(image_format::run(spec, allowed, context)),

        RuleKind::RootLast => Ok(layout::root_last(spec, context, stage)),

        RuleKind::PrimaryPartitions => Ok(layout::primary(spec, context, stage)),

        RuleKind::OnlyRootPartition => Ok(layout::only_root(spec, context, stage)),

        RuleKind::PlainPartitions => Ok(layout::plain(spec, context)),

        RuleKind::NoSwapPartition { partition } => Ok(layout::no_swap(spec, partition, context, stage)),

        RuleKind::PartitionTable { allowed } => Ok(layout::table(spec, allowed, context)),

        RuleKind::DiskSize { minimum, warn_above, maximum } => {
            let (minimum, warn_above, maximum) = (*minimum, *warn_above, *maximum);
            Ok(disk_size::run(spec, &disk_size::Bounds { minimum, warn_above, maximum }, context, stage))
        }

        RuleKind::Filesystems { allowed } => Ok(filesystems::kinds(spec, allowed, context, stage)),

        RuleKind::Ext4Features { forbidden, forbidden_together } => {
            Ok(filesystems::ext4_features(spec, forbidden, forbidden_together, stage))
        }

        RuleKind::BootMode { mode, uefi_only } => boot_mode::run(spec, mode, uefi_only, context, stage),

        RuleKind::Usage { bytes_percent, inodes_percent } => {
            usage::run(spec, *bytes_percent, *inodes_percent, stage)
        }
    }
}

/// A path that is written in the source.
fn path(literal: &str) -> GuestPath {
    GuestPath::root().join(literal)
}
