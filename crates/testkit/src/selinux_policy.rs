//! A real SELinux policy: Debian's, built from its modules once into the cache.

use std::fs;
use std::path::PathBuf;

use crate::cache::Cache;
use crate::deb;
use crate::error::{Result, at};
use crate::tool;

const PACKAGE: &str = "selinux-policy-default";

/// Debian's policy `default` as it lies in a guest that has it installed.
#[derive(Debug, Clone)]
pub struct SelinuxPolicy {
    /// Root of the tree: `etc/selinux/config`, `etc/selinux/default/contexts/files/file_contexts`, …
    pub root: PathBuf,
}

impl SelinuxPolicy {
    /// The policy of the package that apt has, built as the package's own installation does it: every module
    /// put in by semodule, which also sorts `file_contexts` and makes the entries for home directories.
    pub fn debian() -> Result<Self> {
        let digest = deb::digest(PACKAGE)?;
        let cache = Cache::open()?;
        let name = format!("debs/{PACKAGE}_{}", digest.get(..16).unwrap_or(&digest));
        let root = cache.path(&name)?;
        let _lock = cache.lock(&name)?;
        if !root.exists() {
            let scratch = cache.scratch()?;
            let tree = deb::unpack(PACKAGE, scratch.path())?;
            let modules = tree.join("usr/share/selinux/default");
            let list = modules.join(".modules");
            let listed = fs::read_to_string(&list).map_err(at(&list))?;
            let put = |relative: &str, text: &str| {
                let path = tree.join(relative);
                fs::write(&path, text).map_err(at(&path))
            };
            put("etc/selinux/semanage.conf", "module-store = direct\n")?;
            put("etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=default\n")?;
            let mut semodule = tool::command("semodule", ["-X", "100", "-n", "-s", "default", "-p"]);
            semodule.arg(&tree);
            for module in listed.split_whitespace() {
                semodule.arg("-i").arg(modules.join(format!("{module}.pp.bz2")));
            }
            tool::finish(&mut semodule)?;
            // The store of modules is 60 MB that nothing reads again.
            let store = tree.join("var/lib/selinux");
            fs::remove_dir_all(&store).map_err(at(&store))?;
            fs::rename(&tree, &root).map_err(at(&root))?;
        }
        Ok(Self { root })
    }
}
