//! `/etc/selinux/config`: whether SELinux is on, and by which policy.

/// What the guest does with SELinux when no kernel argument says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Denies what the policy does not allow.
    Enforcing,
    /// Logs it only.
    Permissive,
    /// Loads no policy.
    Disabled,
}

impl Mode {
    /// The word in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Enforcing => "enforcing",
            Mode::Permissive => "permissive",
            Mode::Disabled => "disabled",
        }
    }

    /// The mode of a word, in any case.
    pub fn by_name(word: &str) -> Option<Self> {
        [Mode::Enforcing, Mode::Permissive, Mode::Disabled]
            .into_iter()
            .find(|mode| mode.name().eq_ignore_ascii_case(word))
    }
}

/// The two settings of `/etc/selinux/config` (selinux_config(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `SELINUX=`; `None` when no line says it, which libselinux takes for an error and the kernel's
    /// loader for permissive.
    pub mode: Option<Mode>,
    /// Line that sets the mode, counted from 1.
    pub mode_line: Option<usize>,
    /// `SELINUXTYPE=`, the directory of the policy below `/etc/selinux`.
    pub policy: String,
}

impl Config {
    /// Where the settings stand.
    pub const PATH: &str = "/etc/selinux/config";

    /// Reads the settings as libselinux does: the first line that starts with `SELINUX=` and has a known
    /// word, the last `SELINUXTYPE=`, whose default is `targeted`.
    pub fn parse(text: &str) -> Self {
        let mut config = Self { mode: None, mode_line: None, policy: "targeted".into() };
        for (index, line) in text.lines().enumerate() {
            if config.mode.is_none()
                && let Some(value) = line.strip_prefix("SELINUX=")
            {
                let value = value.trim_start().to_ascii_lowercase();
                let known = [Mode::Enforcing, Mode::Permissive, Mode::Disabled];
                config.mode = known.into_iter().find(|mode| value.starts_with(mode.name()));
                config.mode_line = config.mode.map(|_| index + 1);
            }
            let line = line.trim_start();
            const TYPE: &str = "SELINUXTYPE=";
            if let Some((key, value)) = line.split_at_checked(TYPE.len())
                && key.eq_ignore_ascii_case(TYPE)
                && !value.trim().is_empty()
            {
                config.policy = value.trim().to_owned();
            }
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_settings() {
        let config = Config::parse(
            "# SELINUX= can take\n#     enforcing\n SELINUX=disabled\nSELINUX=Permissive\nSELINUX=enforcing\n\
             # SELINUXTYPE= can\nSELINUXTYPE=mls\nSELINUXTYPE=targeted \n\n",
        );
        assert_eq!(
            config,
            Config { mode: Some(Mode::Permissive), mode_line: Some(4), policy: "targeted".into() }
        );
        let odd = Config::parse("SELINUX=perhaps\nSELINUX= enforcing\nSELINUXTYPE=\nselinuxtype=default\n");
        assert_eq!(
            (odd.mode, odd.mode_line, odd.policy.as_str()),
            (Some(Mode::Enforcing), Some(2), "default")
        );
        assert_eq!(Config::parse("").mode, None);
    }
}
