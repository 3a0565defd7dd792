//! Whether a unit is enabled, as `systemctl is-enabled` names it.

use vfs::VfsError;

use super::install::Install;
use super::{CONFIG, DEPENDENCIES, Unit, Units, base_name, template_of, with_suffix};

/// What `systemctl is-enabled` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnitState {
    /// No such unit.
    NotFound,
    /// Leads to `/dev/null`, or is empty: cannot be started at all.
    Masked,
    /// Links in `/etc/systemd/system` start it, or give it a name that starts it.
    Enabled,
    /// A unit file from elsewhere is linked into the load path.
    Linked,
    /// The name is another name of a unit.
    Alias,
    /// It is known by another name, or its `[Install]` names other units only.
    Indirect,
    /// It has an `[Install]` section whose links are not there.
    Disabled,
    /// It has none: other units start it, or nothing.
    Static,
}

impl UnitState {
    /// As `systemctl is-enabled` prints it.
    pub fn name(self) -> &'static str {
        match self {
            UnitState::NotFound => "not-found",
            UnitState::Masked => "masked",
            UnitState::Enabled => "enabled",
            UnitState::Linked => "linked",
            UnitState::Alias => "alias",
            UnitState::Indirect => "indirect",
            UnitState::Disabled => "disabled",
            UnitState::Static => "static",
        }
    }
}

/// What links in one directory of the load path say.
#[derive(Default)]
struct Links {
    /// One by a name that `[Install]` has.
    by_own_name: bool,
    /// One by any name.
    by_any_name: bool,
    /// The name itself is a link to a file elsewhere.
    is_linked: bool,
}

impl Units<'_> {
    /// State of a unit; the suffix `.service` may be left away.
    pub fn state(&self, name: &str) -> Result<UnitState, VfsError> {
        let name = with_suffix(name);
        let Some(unit) = self.find(&name)? else { return Ok(UnitState::NotFound) };
        if unit.is_masked {
            return Ok(UnitState::Masked);
        }
        if unit.by_alias {
            return Ok(UnitState::Alias);
        }
        let install = self.install(&unit)?;
        let mut any = Links::default();
        let mut is_below = false;
        for directory in self.directories() {
            let links = self.links_to(&unit, &install, directory, is_below)?;
            if directory == CONFIG && links.by_own_name {
                return Ok(UnitState::Enabled);
            }
            any.is_linked |= directory == CONFIG && links.is_linked;
            any.by_any_name |= directory == CONFIG && links.by_any_name;
            is_below |= unit.path.starts_with(&format!("{directory}/"));
        }
        Ok(match () {
            () if any.is_linked => UnitState::Linked,
            () if any.by_any_name => UnitState::Indirect,
            () if install.has_rules() => UnitState::Disabled,
            () if !install.also.is_empty() => UnitState::Indirect,
            () => UnitState::Static,
        })
    }

    fn links_to(
        &self,
        unit: &Unit,
        install: &Install,
        directory: &str,
        is_below: bool,
    ) -> Result<Links, VfsError> {
        let mut found = Links::default();
        let mut places = self.dependency_directories(directory)?;
        places.push(directory.to_owned());
        for place in places {
            let is_dependency = DEPENDENCIES.iter().any(|suffix| place.ends_with(suffix));
            for (name, target) in self.links_in(&place)? {
                let by_name = name == unit.name && (is_dependency || !is_below);
                if !by_name && base_name(&target) != unit.name {
                    continue;
                }
                if !is_dependency && name == unit.name {
                    found.is_linked = true;
                    continue;
                }
                found.by_any_name = true;
                found.by_own_name |= is_known_name(&name, unit, install);
            }
        }
        Ok(found)
    }
}

/// True for the unit's name, its aliases, and an instance that its template makes by default.
fn is_known_name(name: &str, unit: &Unit, install: &Install) -> bool {
    let is_template = template_of(&unit.name).as_deref() == Some(unit.name.as_str());
    name == unit.name
        || install.aliases.iter().any(|alias| alias == name)
        || (is_template && install.link_name(&unit.name).as_deref() == Some(name))
}
