//! Keywords of sshd_config(5): what their values may be, how they add up, what holds where nothing is set.

/// Major and minor version of OpenSSH.
pub type Version = (u32, u32);

/// What a keyword's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One of these words, whatever their case; each with the word that `sshd -T` prints for it.
    Word(&'static [(&'static str, &'static str)]),
    /// A number.
    Number,
    /// Seconds, or numbers with `s`, `m`, `h`, `d`, `w`.
    Time,
    /// One argument, taken as it is.
    Text,
    /// Arguments of the first line alone.
    Words,
    /// Each line adds its arguments.
    Adding,
}

struct Keyword {
    name: &'static str,
    kind: Kind,
    /// May stand in a Match block.
    matchable: bool,
    default: &'static str,
}

const FLAG: Kind = Kind::Word(&[("yes", "yes"), ("no", "no")]);
const ROOT_LOGIN: Kind = Kind::Word(&[
    ("without-password", "without-password"),
    ("prohibit-password", "without-password"),
    ("forced-commands-only", "forced-commands-only"),
    ("yes", "yes"),
    ("no", "no"),
]);
const FAMILY: Kind = Kind::Word(&[("inet", "inet"), ("inet6", "inet6"), ("any", "any")]);
const COMPRESSION: Kind = Kind::Word(&[("yes", "yes"), ("delayed", "yes"), ("no", "no")]);
const FORWARDING: Kind =
    Kind::Word(&[("yes", "yes"), ("all", "yes"), ("no", "no"), ("remote", "remote"), ("local", "local")]);
const GATEWAY: Kind = Kind::Word(&[("clientspecified", "clientspecified"), ("yes", "yes"), ("no", "no")]);
const FACILITY: Kind = Kind::Word(&[
    ("daemon", "DAEMON"),
    ("user", "USER"),
    ("auth", "AUTH"),
    ("authpriv", "AUTHPRIV"),
    ("local0", "LOCAL0"),
    ("local1", "LOCAL1"),
    ("local2", "LOCAL2"),
    ("local3", "LOCAL3"),
    ("local4", "LOCAL4"),
    ("local5", "LOCAL5"),
    ("local6", "LOCAL6"),
    ("local7", "LOCAL7"),
]);
const LEVEL: Kind = Kind::Word(&[
    ("quiet", "QUIET"),
    ("fatal", "FATAL"),
    ("error", "ERROR"),
    ("info", "INFO"),
    ("verbose", "VERBOSE"),
    ("debug", "DEBUG"),
    ("debug1", "DEBUG"),
    ("debug2", "DEBUG2"),
    ("debug3", "DEBUG3"),
]);

const fn keyword(name: &'static str, kind: Kind, matchable: bool, default: &'static str) -> Keyword {
    Keyword { name, kind, matchable, default }
}

/// Keywords whose values are judged; all others are kept as they are. Defaults of OpenSSH 7.0 and later.
const KEYWORDS: &[Keyword] = &[
    keyword("addressfamily", FAMILY, false, "any"),
    keyword("syslogfacility", FACILITY, false, "AUTH"),
    keyword("usedns", FLAG, false, "no"),
    keyword("permitrootlogin", ROOT_LOGIN, true, "without-password"),
    keyword("passwordauthentication", FLAG, true, "yes"),
    keyword("kbdinteractiveauthentication", FLAG, true, "yes"),
    keyword("pubkeyauthentication", FLAG, true, "yes"),
    keyword("permitemptypasswords", FLAG, true, "no"),
    keyword("gssapiauthentication", FLAG, true, "no"),
    keyword("hostbasedauthentication", FLAG, true, "no"),
    keyword("usepam", FLAG, false, "no"),
    keyword("x11forwarding", FLAG, true, "no"),
    keyword("x11uselocalhost", FLAG, true, "yes"),
    keyword("permittty", FLAG, true, "yes"),
    keyword("printmotd", FLAG, false, "yes"),
    keyword("printlastlog", FLAG, false, "yes"),
    keyword("strictmodes", FLAG, false, "yes"),
    keyword("tcpkeepalive", FLAG, false, "yes"),
    keyword("allowagentforwarding", FLAG, true, "yes"),
    keyword("compression", COMPRESSION, false, "yes"),
    keyword("allowtcpforwarding", FORWARDING, true, "yes"),
    keyword("gatewayports", GATEWAY, true, "no"),
    keyword("loglevel", LEVEL, true, "INFO"),
    keyword("maxauthtries", Kind::Number, true, "6"),
    keyword("maxsessions", Kind::Number, true, "10"),
    keyword("clientalivecountmax", Kind::Number, true, "3"),
    keyword("clientaliveinterval", Kind::Time, true, "0"),
    keyword("logingracetime", Kind::Time, false, "120"),
    keyword("banner", Kind::Text, true, "none"),
    keyword("pidfile", Kind::Text, false, ""),
    keyword("authorizedkeysfile", Kind::Words, true, ".ssh/authorized_keys .ssh/authorized_keys2"),
    keyword("port", Kind::Adding, false, "22"),
    keyword("listenaddress", Kind::Adding, false, ""),
    keyword("hostkey", Kind::Adding, false, ""),
    keyword("acceptenv", Kind::Adding, true, ""),
    keyword("allowusers", Kind::Adding, true, ""),
    keyword("denyusers", Kind::Adding, true, ""),
    keyword("allowgroups", Kind::Adding, true, ""),
    keyword("denygroups", Kind::Adding, true, ""),
];

fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

/// The name by which a keyword, in lower case, is known; old names are other names of the same setting.
pub(super) fn canonical(name: String) -> String {
    match name.as_str() {
        "challengeresponseauthentication" | "skeyauthentication" => "kbdinteractiveauthentication".into(),
        "dsaauthentication" => "pubkeyauthentication".into(),
        _ => name,
    }
}

/// True when every line adds to the ones before; else the first line counts alone.
pub(super) fn adds_up(name: &str) -> bool {
    find(name).is_some_and(|keyword| keyword.kind == Kind::Adding)
}

/// True when the keyword may stand in a Match block, as far as it is known.
pub(super) fn is_matchable(name: &str) -> bool {
    find(name).is_none_or(|keyword| keyword.matchable)
}

/// The values as `sshd -T` prints them, or what is wrong with them.
pub(super) fn values(name: &str, arguments: &[String]) -> Result<Vec<String>, String> {
    let Some(keyword) = find(name) else { return Ok(vec![arguments.join(" ")]) };
    let first = arguments.first().map(String::as_str).unwrap_or_default();
    if arguments.len() > 1 && !matches!(keyword.kind, Kind::Words | Kind::Adding) {
        return Err(format!("{name} has more than one argument"));
    }
    let wrong = || format!("{name} has the argument {first}, which sshd does not know");
    match keyword.kind {
        Kind::Word(words) => {
            let known = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(first));
            Ok(vec![known.ok_or_else(wrong)?.1.to_owned()])
        }
        Kind::Number => Ok(vec![first.parse::<i32>().map_err(|_| wrong())?.to_string()]),
        Kind::Time => Ok(vec![seconds(first).ok_or_else(wrong)?.to_string()]),
        Kind::Text | Kind::Words => Ok(vec![arguments.join(" ")]),
        Kind::Adding if name == "port" => match arguments {
            [port] if port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(vec![port.clone()]),
            _ => Err(wrong()),
        },
        Kind::Adding => Ok(arguments.to_vec()),
    }
}

/// What holds where no line sets the keyword; `None` when it is not known or nothing.
pub(super) fn default(name: &str, version: Option<Version>) -> Option<&'static str> {
    let older = |than: Version| version.is_some_and(|version| version < than);
    match name {
        // Release notes of OpenSSH 7.0 and 6.8.
        "permitrootlogin" if older((7, 0)) => Some("yes"),
        "usedns" if older((6, 8)) => Some("yes"),
        _ => find(name).map(|keyword| keyword.default).filter(|value| !value.is_empty()),
    }
}

/// A time in seconds (sshd_config(5), TIME FORMATS).
fn seconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut number: Option<u64> = None;
    for sign in text.chars() {
        if let Some(digit) = sign.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(digit))?);
            continue;
        }
        let unit = match sign.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            'w' => 7 * 24 * 60 * 60,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    match number {
        Some(rest) => total.checked_add(rest),
        None => (!text.is_empty()).then_some(total),
    }
    .filter(|total| *total <= i32::MAX as u64)
}
